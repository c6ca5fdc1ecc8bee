"""What all kinds of figure share: how they are written."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import seaborn as sns

from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.kinds import module_of
from fspkd.result import Result

matplotlib.rcdefaults()  # not the user's matplotlibrc, which may want LaTeX


def write(plan: Plan, name: str) -> Path:
    """Write a figure as PNG and SVG, and its numbers as CSV; returns the PNG's path. The same nets give the same bytes."""
    figure, png = plan.preset.figures[name], Path(Result(plan, "figure", name).file)
    kind = module_of(figure)
    data = kind.read(plan, name)
    save(kind.draw(f"{figure.title} (preset {plan.preset.name})", data), png)
    for end, content in kind.files(data).items():
        write_atomically(png.with_name(f"{name}{end}"), content)
    return png


def numbers(plan: Plan, name: str) -> bytes:
    """The content of a figure's CSV file."""
    kind = module_of(plan.preset.figures[name])
    return kind.files(kind.read(plan, name))[".csv"]


def colors(count: int) -> list[tuple[float, float, float]]:
    """Colours that can be told apart, up to ten of them also by colour-blind readers."""
    return sns.color_palette("colorblind" if count <= 10 else "husl", count)


def save(drawing: plt.Figure, png: Path) -> None:
    """Write a drawing as PNG and, without its title, which pages show above it, as SVG; then close it.

    The same drawing gives the same bytes.
    """
    plt.rcParams["svg.hashsalt"] = "fspkd"
    for path, options in ((png, {"dpi": 200}), (png.with_suffix(".svg"), {"metadata": {"Date": None}})):
        if path.suffix == ".svg":
            drawing.suptitle("")
        buffer = io.BytesIO()
        drawing.savefig(buffer, format=path.suffix[1:], **options)
        write_atomically(path, buffer.getvalue())
    plt.close(drawing)
