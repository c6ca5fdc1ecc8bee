"""Pictures of tables and claims, drawn from their CSV files."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FixedLocator

from fspkd.plan import Plan
from fspkd.report.columns import is_net
from fspkd.report.figures import save
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import CLAIMS
from fspkd.report.tables import INTERVAL, PUBLISHED, key_to_marks, row_labels
from fspkd.result import Result

MEANS = ("average", "accuracy", "error")  # the column that sums up a row
COLORS = {"reproduced": "#029e73", "not reproduced": "#d55e00"}  # from seaborn's colour-blind palette; others are grey
GREY = "#949494"
LINE = 0.32  # inches per row
TICKS = (1, 2, 5, 10, 20, 50, 100)  # percentage points


def draw_table(frame: pd.DataFrame, title: str, unit: str, key: str = "") -> plt.Figure:
    """Plot each row on a line: its nets, their average with any interval, their ensemble, and the published values.

    `key`: what marks in labels mean.
    """
    sns.set_theme(context="paper", style="whitegrid")
    drawing, axes = plt.subplots(figsize=(8, 1.3 + LINE * 1.3 * len(frame)), layout="constrained")
    places, (blue, _, green, *_) = np.arange(len(frame)), sns.color_palette("colorblind")
    mean = next((column for column in MEANS if column in frame), None)
    nets = [column for column in frame if is_net(column)]

    def draw(column: str | None, label: str | None, below: float = 0.0, **style: object) -> None:
        if column in frame and frame[column].notna().any():
            axes.plot(frame[column], places + below, linestyle="", label=label, **style)

    for number, column in enumerate(nets):  # a little apart, since nets may be equal
        apart = 0.24 * (number / (len(nets) - 1) - 0.5) if len(nets) > 1 else 0.0
        draw(column, "nets" if number == 0 else "_", apart, marker="o", color=blue, markersize=4, alpha=0.6)
    draw(mean, "average" if nets else mean, marker="|", color="black", markersize=13, markeredgewidth=2)
    if f"{mean}{INTERVAL}" in frame:
        low, high = (frame[mean] + side * frame[f"{mean}{INTERVAL}"] for side in (-1, 1))
        axes.hlines(places, low, high, color="black", label="95 % interval")
    hollow: dict[str, object] = {"markerfacecolor": "none", "markersize": 6}
    draw("ensemble", "ensemble", 0.0, marker="D", color=green, markeredgewidth=1.5, **hollow)
    draw(f"{mean}{PUBLISHED}", "published", 0.3, marker="s", color=GREY, **hollow)
    draw(f"ensemble{PUBLISHED}", "published ensemble", 0.3, marker="D", color=GREY, **hollow)
    axes.set_yticks(places, row_labels(frame).str.replace("$", r"\$"))
    axes.set_ylim(len(frame) - 0.4, -0.6)
    axes.set_xlabel("\n".join([unit, *textwrap.wrap(key.replace("$", r"\$"), 110)]), fontsize="small")
    _title(drawing, title)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        drawing.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    sns.despine(drawing, left=True)
    return drawing


def draw_claims(frame: pd.DataFrame, title: str, is_demonstration: bool = False) -> plt.Figure:
    """Plot each claim on a line, in its unit: our value with its interval, the limit, and the published value.

    Where percentage points range over tens, those beyond 2 are on a logarithmic scale, since most claims are about less.

    Verdicts have colours, except in a demonstration.
    """
    colors = {} if is_demonstration else COLORS
    sns.set_theme(context="paper", style="whitegrid")
    ran = frame[frame["ours"].notna()]
    units = list(dict.fromkeys(ran["unit"]))
    heights = [max(2, (ran["unit"] == unit).sum()) for unit in units] or [1]
    figsize = (9, 1.5 + 1.4 * LINE * sum(heights))
    drawing, grid = plt.subplots(
        len(heights), 1, figsize=figsize, height_ratios=heights, squeeze=False, layout="constrained"
    )
    for axes, unit in zip(grid[:, 0], units, strict=False):
        _claims(axes, ran[ran["unit"] == unit].reset_index(drop=True), unit, colors)
    ours = {"marker": "o", "linestyle": "-", "linewidth": 2, "markersize": 5}
    handles = [plt.Line2D([], [], color=color, label=verdict, **ours) for verdict, color in colors.items()]
    handles.append(plt.Line2D([], [], color=GREY, label="undecided" if colors else "ours", **ours))
    handles.append(plt.Line2D([], [], color=GREY, marker="s", linestyle="", markerfacecolor="none", label="published"))
    handles.append(plt.Line2D([], [], color="black", marker="|", linestyle="", markersize=12, label="limit"))
    drawing.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    left = len(frame) - len(ran)
    _title(drawing, title + (f"; {left} more were not run" if left else ""))
    sns.despine(drawing, left=True)
    return drawing


def _claims(axes: plt.Axes, frame: pd.DataFrame, unit: str, colors: dict[str, str]) -> None:
    for place, claim in frame.iterrows():
        color = colors.get(claim["verdict"], GREY)
        axes.hlines(place, claim["low"], claim["high"], color=color, linewidth=2)
        axes.plot(claim["ours"], place, "o", color=color, markersize=5)
        axes.plot(claim["published"], place, "s", color=GREY, markerfacecolor="none", markersize=5)
        ends = [claim["threshold"]] if claim["has_to_be"] != "within" else [-claim["threshold"], claim["threshold"]]
        axes.vlines(ends, place - 0.4, place + 0.4, color="black", linewidth=1)
    texts = [textwrap.fill(text.replace("$", r"\$"), 60) for text in frame["claim"]]
    axes.set_yticks(range(len(frame)), texts, fontsize=7)
    axes.set_ylim(len(frame) - 0.5, -0.5)
    axes.set_xlabel(unit)
    if unit == "percentage points" and frame[["ours", "low", "high", "published"]].abs().max(axis=None) > 10:
        axes.set_xscale("symlog", linthresh=2)
        axes.xaxis.set_major_locator(FixedLocator([0, *(sign * size for sign in (-1, 1) for size in TICKS)]))
        axes.xaxis.set_major_formatter("{x:g}")


def _title(drawing: plt.Figure, title: str) -> None:
    drawing.suptitle(textwrap.fill(title.replace("$", r"\$"), 90), fontsize=10)


def write_table(plan: Plan, name: str) -> None:
    """Draw a table from its CSV, beside it."""
    table, csv = plan.preset.tables[name], Path(Result(plan, "table", name).file)
    title, frame = f"{table.title} (preset {plan.preset.name})", read_labelled(csv)
    if plan.preset.demonstration:  # whose numbers are not to be compared with published ones
        frame = frame.drop(columns=[column for column in frame if column.endswith(PUBLISHED)])
    key = " ".join(key_to_marks(plan, name))
    save(draw_table(frame, title, f"{table.measured} in percent", key), csv.with_suffix(".png"))


def write_claims(plan: Plan) -> None:
    """Draw claims from their CSV, beside it."""
    csv, title = Path(Result(plan, "claims").file), f"{CLAIMS} (preset {plan.preset.name})"
    save(draw_claims(read_labelled(csv), title, plan.preset.demonstration), csv.with_suffix(".png"))
