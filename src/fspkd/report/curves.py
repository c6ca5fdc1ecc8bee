"""Figures of training loss and test accuracy over the iterations, and where the curves become flat."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy.stats import gmean

from fspkd.config import results
from fspkd.plan import Plan
from fspkd.report.figures import colors
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import shown
from fspkd.report.seeds import ratio_of_flat_parts
from fspkd.runs.metrics import load_metrics
from fspkd.runs.spec import Run

POINTS = 100  # of a smoothed loss curve
NEAR = 0.05  # of its level: within that, a curve is flat
LATE = 0.1  # last part of the iterations at the first rate: its mean is the level
MEASURES = {"training loss": "smoothed_loss", "test accuracy": "test_accuracy"}


Curves = dict[str, list[tuple[Run, pd.DataFrame]]]  # by label, each net, or first stage, with its metrics


def smoothed(metrics: pd.DataFrame, length: int) -> pd.DataFrame:
    """The metrics of a run of that length, or of one stopped earlier, as they are drawn.

    The loss is averaged over windows so that a whole curve has about POINTS points, those marked `drawn`: at the same
    iterations in all nets of a row.
    """
    frame, window = metrics.reset_index(), max(1, length // POINTS)
    frame["smoothed_loss"] = frame["loss"].rolling(window, min_periods=1).mean()
    frame["drawn"] = (frame["iteration"] % window == 0) | (frame["iteration"] == length)
    return frame


def read_curves(plan: Plan, name: str) -> Curves:
    """The curves of a figure, from its finished nets."""
    return {
        label: [
            (net, smoothed(load_metrics(net.folder), net.spec.iterations)) for net in nets if net.folder.is_finished
        ]
        for label, nets in plan.curves(name).items()
    }


def flat_from(net: Run, curve: pd.DataFrame, measure: str) -> float:
    """The iteration at which a net's curve enters its flat part, within the first learning rate.

    The level of a curve is its mean over the last tenth of the iterations run at the first learning rate, or its last value
    there. Its flat part begins where it first comes within NEAR of that level, as a fraction of it: the loss from above,
    the accuracy from below. Later rates change all curves at the same iterations, whatever the start was, so they say
    nothing here. NaN if nothing was measured at the first rate.
    """
    end = min(net.spec.schedule[0].until, len(curve))
    values = curve[curve["iteration"] <= end].set_index("iteration")[MEASURES[measure]].dropna()
    if values.empty:
        return math.nan
    late = values[values.index > (1 - LATE) * end]
    level = late.mean() if len(late) else values.iloc[-1]
    near = values <= (1 + NEAR) * level if measure == "training loss" else values >= (1 - NEAR) * level
    return near.idxmax()


def flat_parts(curves: Curves, measures: Iterable[str]) -> pd.DataFrame:
    """Where each net's curves enter their flat part: columns measure, curve, net, iteration."""
    rows = [
        (measure, label, net.id, flat_from(net, curve, measure))
        for measure in measures
        for label, nets in curves.items()
        for net, curve in nets
    ]
    return pd.DataFrame(rows, columns=["measure", "curve", "net", "iteration"])


def read(plan: Plan, name: str) -> tuple[Curves, pd.DataFrame]:
    """The curves of a figure, and their flat parts by each measure shown."""
    curves = read_curves(plan, name)
    return curves, flat_parts(curves, cast(results.Curves, plan.preset.figures[name]).measures)


def draw(title: str, data: tuple[Curves, pd.DataFrame]) -> plt.Figure:
    """Plot a panel for each measure that has flat parts, over the iterations: training loss, on a logarithmic scale, and
    test accuracy in percent.

    A line is the mean over the nets of a curve that are still training, the band around it reaches from their lowest to
    their highest value, and a dotted line marks the iteration, a geometric mean, at which they enter their flat part.
    """
    curves, flat = data
    sns.set_theme(context="paper", style="whitegrid")
    measures = list(dict.fromkeys(flat["measure"]))
    drawing, panels = plt.subplots(1, len(measures), figsize=(8, 3.4), layout="constrained", squeeze=False)
    for axes, measure in zip(panels[0], measures, strict=True):
        column = MEASURES[measure]
        lines = []
        for color, (label, nets) in zip(colors(len(curves)), curves.items(), strict=True):
            long = pd.concat([_thinned(curve, column) for _, curve in nets])
            sns.lineplot(long, x="iteration", y=column, errorbar=("pi", 100), color=color, ax=axes)
            lines.append(axes.lines[-1])
            begin = flat[(flat["measure"] == measure) & (flat["curve"] == label)]["iteration"].agg(
                gmean, nan_policy="omit"
            )
            if not math.isnan(begin):
                axes.axvline(begin, color=color, linestyle=":", linewidth=1)
        axes.set_xlim(left=0)
        axes.set(xlabel="iteration", ylabel=measure)
        axes.xaxis.set_major_locator(MaxNLocator(6))  # tens of thousands are wide
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if measure == "training loss":
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high > 30 * low else (1, 1.5, 2, 3, 5, 7)))
            axes.yaxis.set_major_formatter("{x:g}")  # 0.1, not 10^-1
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_ylabel(f"{measure} in %")
            axes.yaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    place = "upper right" if measure == "training loss" else "lower right"
    axes.legend(lines, curves, loc=place, frameon=False)  # labels passed explicitly may begin with _
    drawing.suptitle(title, fontsize="medium")
    bands = "bands: from the lowest to the highest net; " if any(len(nets) > 1 for nets in curves.values()) else ""
    dotted = "dotted: where the flat part begins"
    first = (
        "; a first stage's iterations are not counted"
        if any(n.stage1 for nets in curves.values() for n, _ in nets)
        else ""
    )
    drawing.supxlabel(f"{bands}{dotted}{first}", fontsize="small")
    sns.despine(drawing)
    return drawing


def _thinned(curve: pd.DataFrame, column: str) -> pd.DataFrame:
    """The drawn points of a curve: where it was tested or, of the smoothed loss, about POINTS and the last."""
    if column == "smoothed_loss":
        curve = curve[curve["drawn"]]
    return curve[["iteration", column]].dropna()


def files(data: tuple[Curves, pd.DataFrame]) -> dict[str, bytes]:
    """The numbers behind a figure, a row per iteration, and its flat parts.

    Numbers are means over a curve's nets: where these were tested or, for first stages, which are not tested, where losses
    are drawn.
    """
    (curves, flat), columns = data, {}
    for label, nets in curves.items():
        if any(net.spec.stage == 1 for net, _ in nets):
            drawn = pd.concat([_thinned(curve, "smoothed_loss") for _, curve in nets]).groupby("iteration")
            columns[f"{label}: training loss"] = drawn["smoothed_loss"].mean()
            continue
        tested = pd.concat([curve.dropna(subset="test_accuracy") for _, curve in nets]).groupby("iteration")
        for measure, column in MEASURES.items():
            columns[f"{label}: {measure}"] = tested[column].mean()
    numbers = pd.DataFrame(columns).sort_index().reset_index()
    return {
        ".csv": numbers.to_csv(index=False, float_format="%.6g").encode(),
        "_flat.csv": flat.to_csv(index=False).encode(),
    }


def on_page(plan: Plan, name: str) -> tuple[str, pd.DataFrame]:
    """The note below a figure, and a table of where its curves become flat, with the ratio of the first two."""
    frame, rows = read_labelled(Path(plan.preset.results, f"{name}_flat.csv")), []
    for measure, group in frame.groupby("measure", sort=False):
        means = group.groupby("curve", sort=False)["iteration"].agg(gmean, nan_policy="omit")
        row = {"": measure, **{f"{label}: flat from": shown(mean, ",.0f") for label, mean in means.items()}}
        published: list[float] = []
        if len(means) > 1:
            first, second = means.index[:2]
            nets = plan.curves(name)
            estimate = ratio_of_flat_parts(nets[first], nets[second], group)
            row[f"{first} / {second}"] = shown(estimate.value)
            is_known = estimate.low == estimate.low
            row["95 % interval"] = f"{shown(estimate.low)} to {shown(estimate.high)}" if is_known else "–"
            asked = (name, measure, first, second)
            claims = [claim for claim in plan.claims if isinstance(claim, results.FigureClaim)]
            published = [c.published for c in claims if (c.figure, c.measure, c.later, c.earlier) == asked]
        row["published"] = f"about {published[0]:g}" if published else "–"
        rows.append(row)
    note = (
        f"A curve is flat from where it first comes within {100 * NEAR:g} % of its level in the last {100 * LATE:g} % of the "
        "iterations at the first learning rate; geometric means over nets."
    )
    if any(net.stage1 for nets in plan.curves(name).values() for net in nets):
        note += " Iterations of a first stage are not counted."
    return note, pd.DataFrame(rows)
