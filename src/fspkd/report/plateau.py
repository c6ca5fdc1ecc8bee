"""Figures of how long nets only guess: their training loss relative to that of predicting all classes equally likely."""

import math
from itertools import cycle
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from fspkd.config.results import Plateau
from fspkd.engine.schedule import progress
from fspkd.lazy import torch
from fspkd.plan import Plan
from fspkd.report.figures import colors
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import shown
from fspkd.runs.metrics import load_metrics
from fspkd.runs.spec import Run

WINDOW = 50  # iterations that a loss is averaged over
LEFT = 0.99  # of the loss of guessing: below it, a net has left the plateau
HALF = 0.5
POINTS = 200  # drawn per curve
STYLES = ("-", "--", "-.", ":")  # of lines, so that these do not differ by colour alone


def guessing_loss(net: Run, classes: int) -> pd.Series:
    """The loss at each iteration of a net's last stage if it gave all classes the same probability, whatever its teacher.

    The net's method computes it. Both cross-entropies of distillation are then ln(classes), but the second one's weight
    changes over the stage.
    """
    same, label = torch.zeros(1, classes), torch.zeros(1, dtype=torch.long)
    done = torch.tensor([progress(net.spec.schedule, iteration) for iteration in range(net.spec.iterations)])
    losses = torch.vmap(lambda at: net.spec.method.loss({"logits": same}, {}, same, label, at))(done)
    return pd.Series(losses.tolist(), range(1, len(done) + 1))


def read(plan: Plan, name: str) -> dict[str, dict[str, pd.Series]]:
    """Loss / loss of guessing, by curve and finished net, as running means over WINDOW iterations."""
    found: dict[str, dict[str, pd.Series]] = {}
    for label, reference in cast(Plateau, plan.preset.figures[name]).curves.items():
        for net in plan.nets(reference):
            if net.folder.is_finished:
                classes = len(net.folder.read_manifest().images.classes)
                loss = load_metrics(net.folder)["loss"]
                relative = loss / guessing_loss(net, classes).loc[loss.index]
                found.setdefault(label, {})[net.id] = relative.rolling(WINDOW, min_periods=1).mean()
    return found


def first_below(level: float, relative: pd.Series) -> float:
    """The iteration at which the mean over WINDOW iterations first falls below a level; NaN where it never does.

    WINDOW means at most that: there is no mean before.
    """
    below = relative[(relative < level) & (relative.index >= WINDOW)]
    return math.nan if below.empty else below.index[0]


def files(curves: dict[str, dict[str, pd.Series]]) -> dict[str, bytes]:
    """The numbers behind a figure.

    A row per net: iterations trained, when it left the plateau and halved the loss of guessing, and its last relative loss.
    """
    lines = [
        (label, net, relative.index[-1], first_below(LEFT, relative), first_below(HALF, relative), relative.iloc[-1])
        for label, nets in curves.items()
        for net, relative in nets.items()
    ]
    frame = pd.DataFrame(lines, columns=["curve", "net", "iterations", "left_at", "half_at", "last"])
    frame = frame.astype({"left_at": "Int64", "half_at": "Int64"})
    return {".csv": frame.to_csv(index=False, float_format="%.4g").encode()}


def draw(title: str, curves: dict[str, dict[str, pd.Series]]) -> plt.Figure:
    """Plot the relative loss of each net over the iterations, with a dot where it leaves the plateau.

    The legend says after how many iterations that is, as a mean over the nets that do.
    """
    sns.set_theme(context="paper", style="whitegrid")
    drawing, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    handles: dict[str, plt.Line2D] = {}
    for color, style, (label, nets) in zip(colors(len(curves)), cycle(STYLES), curves.items(), strict=False):
        at = [first_below(LEFT, relative) for relative in nets.values()]
        left = [iteration for iteration in at if not math.isnan(iteration)]
        told = _told(sum(left) / len(left), WINDOW in left) if left else "never"
        told += f" ({len(left)} of {len(nets)} nets)" if 0 < len(left) < len(nets) else ""
        for iteration, relative in zip(at, nets.values(), strict=True):
            drawn = relative.iloc[np.unique(np.geomspace(1, len(relative), POINTS).astype(int)) - 1]
            (line,) = axes.plot(drawn.index, drawn, color=color, linestyle=style, linewidth=1)
            handles.setdefault(f"{label}: {told}", line)
            if not math.isnan(iteration) and iteration > WINDOW:
                axes.plot(iteration, relative[iteration], "o", color=color, markersize=4)
    axes.set(xlabel="iteration", ylabel="training loss / loss of guessing", ylim=(0, 1.25))
    axes.set_xscale("log")  # plateaus are a small part of a long training
    axes.set_xlim(left=10)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    drawing.legend(handles.values(), handles, loc="outside right upper", frameon=False, title="left after")
    drawing.suptitle(title, fontsize="medium")
    drawing.supxlabel("dots: the plateau is left", fontsize="small")
    sns.despine(drawing)
    return drawing


def _told(iterations: float, is_limit: bool) -> str:
    return f"{'at most ' if is_limit else ''}{iterations:,.0f}"


def on_page(plan: Plan, name: str) -> tuple[str, pd.DataFrame]:
    """The note below a figure, and a table of when its nets left the plateau."""
    frame = read_labelled(Path(plan.preset.results, f"{name}.csv"))
    left, half = (
        [_told(value, value == WINDOW) if value == value else "never" for value in frame[at]]
        for at in ("left_at", "half_at")
    )
    iterations = frame["iterations"].map("{:,}".format)
    note = (
        f"A net has left the plateau when its training loss, a mean over {WINDOW} iterations, is below {LEFT:g} of that of a "
        "net which gives all classes the same probability; half: below half of that; last: its loss relative to that, at the "
        "end. One line per net."
    )
    return note, pd.DataFrame(
        {"": frame["curve"], "left after": left, "half after": half, "of": iterations, "last": frame["last"].map(shown)}
    )
