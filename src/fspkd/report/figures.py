"""What all kinds of figure share: which module draws one, and how a drawing is written."""

import importlib
import io
from pathlib import Path
from types import ModuleType

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from fspkd.files import write_atomically
from fspkd.plan import Plan


def drawn_by(plan: Plan, name: str) -> ModuleType:
    """The module of a figure's kind.

    `write(plan, name, png)` writes its files, `numbers(plan, name)` gives the content of its CSV, and `on_page(plan, name)`
    what stands below it on a page: a note and a table.
    """
    return importlib.import_module(f"fspkd.report.{plan.preset.figures[name].kind}")


def save(drawing: plt.Figure, png: Path) -> None:
    """Write a drawing as PNG and, for pages, which have its title above it, without that as SVG; then close it.

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
