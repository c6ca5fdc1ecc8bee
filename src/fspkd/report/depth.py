"""Figures of final test accuracy over the number of layers, beside the published points."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D

from fspkd.plan import Plan
from fspkd.report.figures import colors
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import shown
from fspkd.report.points import measured_points
from fspkd.report.predictions import LEARNED

MARKERS = "os^DvPX*"  # of methods, so that they differ without colours too
OURS = {"linestyle": "-", "markersize": 5}
PUBLISHED = {"linestyle": "--", "linewidth": 1, "markersize": 5, "markerfacecolor": "white"}
FAILED = {"linestyle": "none", "marker": "x", "markersize": 6, "markeredgewidth": 1.5}
GREY = "0.35"

read = measured_points


def draw(title: str, points: pd.DataFrame) -> plt.Figure:
    """Plot each panel of `points` (see measured_points): test accuracy in percent over the layers, a colour per method.

    A filled marker is the mean over the nets that learnt, its bar reaches from the lowest to the highest of them; hollow
    markers are published. Nets that failed to learn are a cross below the scale, joined by no line; where others of
    their row learnt, it says how many failed.
    """
    sns.set_theme(context="paper", style="whitegrid")
    panels, methods = (list(dict.fromkeys(points[column])) for column in ("panel", "method"))
    styles: list[dict[str, object]] = [
        {"color": c, "marker": MARKERS[n % len(MARKERS)]} for n, c in enumerate(colors(len(methods)))
    ]
    width = 1 + 3.5 * len(panels)
    drawing, grid = plt.subplots(1, len(panels), figsize=(width, 4), sharey=True, squeeze=False, layout="constrained")
    crosses = _set_scale(grid[0], points)
    layers = sorted(points["layers"].unique())
    step = 0.1 * min(np.diff(layers), default=1)  # between two methods' points, which would hide each other
    for axes, panel in zip(grid[0], panels, strict=True):
        for number, (method, style) in enumerate(zip(methods, styles, strict=True)):
            line = points[(points["panel"] == panel) & (points["method"] == method)]
            _draw_line(axes, line, step * (number - (len(methods) - 1) / 2), style, crosses)
        axes.set(title=panel, xlabel="layers", xticks=layers, xlim=(layers[0] - 4 * step, layers[-1] + 4 * step))
        axes.grid(visible=False, axis="x")
    grid[0][0].set_ylabel("test accuracy in %")
    handles = _legend(points, dict(zip(methods, styles, strict=True)))
    told = [handle.get_label() for handle in handles]  # passed explicitly, they may begin with _
    drawing.legend(handles, told, loc="outside lower center", ncols=3 * len(panels) - 1, frameon=False)
    drawing.suptitle(textwrap.fill(f"{title}{_note(points)}", int(14 * width)), fontsize="medium")
    sns.despine(drawing)
    return drawing


def _note(points: pd.DataFrame) -> str:
    """What a reader has to know about the markers."""
    notes = []
    if points.duplicated(["panel", "method", "layers"]).any():
        notes.append("; bars: from the lowest to the highest net")
    if not points["learned"].all():
        notes.append(f"; crosses: nets that failed to learn, with an accuracy below {LEARNED} times that of guessing")
    return "".join(notes)


def _set_scale(panels: Sequence[plt.Axes], points: pd.DataFrame) -> float:
    """Fit the scale to learnt and published values; returns where, below it, crosses stand for failed nets."""
    shown = pd.concat([points["accuracy"][points["learned"]], points["published"]]).dropna()
    low, high = (shown.min(), shown.max()) if len(shown) else (0.0, 100.0)
    margin = 0.06 * max(high - low, 1.0)
    low, high, crosses = low - margin, high + margin, low - 4 * margin
    panels[0].set_ylim(low, high)
    if points["learned"].all():
        return crosses
    ticks = [tick for tick in panels[0].get_yticks() if low < tick < high]
    panels[0].set_yticks([crosses, *ticks], ["failed", *(f"{tick:g}" for tick in ticks)])
    panels[0].set_ylim(crosses - margin, high)
    for axes in panels:
        axes.axhspan(crosses - margin, low, color="0.93", linewidth=0, zorder=1.5)  # above the grid
    return crosses


def _draw_line(axes: plt.Axes, line: pd.DataFrame, shift: float, style: dict[str, object], crosses: float) -> None:
    """Draw a method's points in a panel, shifted right by `shift`."""
    by_layers = line.groupby("layers")
    learned = line["accuracy"].where(line["learned"]).groupby(line["layers"]).agg(["mean", "min", "max"])
    published = by_layers["published"].first().dropna()
    axes.plot(published.index + shift, published, **style, **PUBLISHED)
    axes.plot(learned.index + shift, learned["mean"], **style, **OURS)  # with gaps where all nets failed
    bars = learned.dropna()
    axes.vlines(bars.index + shift, bars["min"], bars["max"], color=style["color"], linewidth=1.5)
    for layers, nets in by_layers:
        failed = (~nets["learned"]).sum()
        if failed:
            axes.plot(layers + shift, crosses, **{**style, **FAILED})
        if 0 < failed < len(nets):
            told, place = f"{failed} of {len(nets)}", (layers + shift, crosses)
            axes.annotate(told, place, (0, 5), textcoords="offset points", ha="center", rotation=90, fontsize="x-small")


def _legend(points: pd.DataFrame, styles: dict[str, dict[str, object]]) -> list[Line2D]:
    handles = [Line2D([], [], label=method, **style, **OURS) for method, style in styles.items()]
    if points["published"].notna().any():
        handles.append(Line2D([], [], label="published", color=GREY, marker=MARKERS[0], **PUBLISHED))
    if not points["learned"].all():
        handles.append(Line2D([], [], label="failed to learn", color=GREY, **FAILED))
    return handles


def files(points: pd.DataFrame) -> dict[str, bytes]:
    """The numbers behind a figure: a row per net."""
    return {".csv": points.to_csv(index=False, float_format="%.6g").encode()}


def on_page(plan: Plan, name: str) -> tuple[str, pd.DataFrame]:
    """The note below a figure, and a table of its points: a column per method, in the figure's order."""
    frame = read_labelled(Path(plan.preset.results, f"{name}.csv"))
    kept = {column: pd.Categorical(frame[column], frame[column].unique()) for column in ("panel", "method")}
    points = frame.assign(**kept).groupby(["panel", "layers", "multiplications", "method"], observed=True)
    wide = points[["accuracy", "learned", "published"]].apply(_point).unstack("method", fill_value="–")
    wide.columns = wide.columns.astype(str)
    wide = wide.reset_index()
    note = (
        "Means over the nets of a point that learnt; published values are in brackets. A net that is right less than "
        f"{LEARNED} times as often as one that guesses has failed to learn."
    )
    return note, wide.assign(multiplications=wide["multiplications"].map("{:,}".format)).rename(columns={"panel": ""})


def _point(nets: pd.DataFrame) -> str:
    """A point's nets, formatted for readers."""
    learned, published = nets["accuracy"][nets["learned"]], nets["published"].iloc[0]
    parts = [shown(learned.mean())] if len(learned) else []
    if failed := len(nets) - len(learned):
        parts.append("failed" if failed == len(nets) else f"({failed} of {len(nets)} failed)")
    return " ".join(parts) + (f" ({shown(published)})" if published == published else "")
