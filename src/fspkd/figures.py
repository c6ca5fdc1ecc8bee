"""Figures: training loss and test accuracy over the iterations."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogFormatter

from fspkd.files import write_atomically
from fspkd.plan import Plan

POINTS = 100  # of a smoothed loss curve


def read_curve(metrics: Path) -> pd.DataFrame:
    """The metrics of a run, the loss averaged over windows so that a curve has about POINTS points."""
    frame = pd.read_csv(metrics)
    window = max(1, len(frame) // POINTS)
    frame["smoothed_loss"] = frame["loss"].rolling(window, min_periods=1).mean()
    return frame


def draw_figure(plan: Plan, name: str) -> plt.Figure:
    """Two panels, training loss on a logarithmic scale and test accuracy in percent, a curve for each net."""
    figure = plan.preset.figures[name]
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    drawing, (loss_axes, accuracy_axes) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for label, reference in figure.curves.items():
        curve = read_curve(plan.net(reference).folder / "metrics.csv")
        loss_axes.plot(curve["iteration"], curve["smoothed_loss"], label=label)
        tested = curve.dropna(subset="test_accuracy")
        accuracy_axes.plot(tested["iteration"], tested["test_accuracy"], label=label, marker=".")
    loss_axes.set(xlabel="iteration", ylabel="training loss", yscale="log")
    loss_axes.yaxis.set_major_formatter("{x:g}")  # 0.1, not 10^-1
    loss_axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
    accuracy_axes.set(xlabel="iteration", ylabel="test accuracy in %")
    accuracy_axes.legend(loc="lower right", frameon=False)
    for axes in (loss_axes, accuracy_axes):
        axes.set_xlim(left=0)
    drawing.suptitle(f"{figure.title} (preset {plan.preset.name})", fontsize="medium")
    sns.despine(drawing)
    return drawing


def curves_csv(plan: Plan, name: str) -> bytes:
    """The numbers behind a figure where the nets were tested, as CSV: an iteration a row, two columns a curve."""
    columns = {}
    for label, reference in plan.preset.figures[name].curves.items():
        tested = read_curve(plan.net(reference).folder / "metrics.csv").dropna(subset="test_accuracy")
        tested = tested.set_index("iteration")
        columns[f"{label}: training loss"] = tested["smoothed_loss"]
        columns[f"{label}: test accuracy"] = tested["test_accuracy"]
    return pd.DataFrame(columns).sort_index().reset_index().to_csv(index=False, float_format="%.6g").encode()


def write_figure(plan: Plan, name: str, png: Path) -> None:
    """Write a figure as PNG, beside it as SVG and its numbers as CSV; the same data gives the same bytes."""
    drawing = draw_figure(plan, name)
    plt.rcParams["svg.hashsalt"] = "fspkd"
    for path, options in ((png, {"dpi": 200}), (png.with_suffix(".svg"), {"metadata": {"Date": None}})):
        buffer = io.BytesIO()
        drawing.savefig(buffer, format=path.suffix[1:], **options)
        write_atomically(path, buffer.getvalue())
    plt.close(drawing)
    write_atomically(png.with_suffix(".csv"), curves_csv(plan, name))
