"""Figures of FSP matrices: a teacher's, and those of a student before and after its first stage."""

from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from fspkd.data.packed import load_data
from fspkd.data.sets import PretrainedWeights
from fspkd.distill.fsp import Fsp
from fspkd.engine.batches import Images
from fspkd.lazy import torch
from fspkd.networks.residual import ResidualNetwork
from fspkd.plan import Plan
from fspkd.runs.spec import Run
from fspkd.train.nets import finished_net, initial_net

IMAGES = 128  # test images, at most, whose matrices are compared
TEACHER, BEFORE, AFTER = "teacher", "student before stage 1", "student after stage 1"
Matrices = dict[str, dict[str, np.ndarray]]  # by the two layers, and by net


def matrices_of(first: Run) -> Matrices:
    """The FSP matrices that a first stage compares, of some test images: (images, M, N) each.

    As in that stage, the student normalises by batch statistics, the teacher does not, and a shuffled teacher is shuffled.
    """
    method, teacher = cast(Fsp, first.spec.method), cast(Run | PretrainedWeights, first.teacher)
    network = cast(ResidualNetwork, first.spec.network)
    images = Images(load_data(first.data), first.spec.augment, torch.device("cpu"))
    x = images.to_input(images.test[_evenly_spaced(len(images.test))])
    nets = {
        TEACHER: finished_net(teacher, images.shape, images.classes).eval(),
        BEFORE: initial_net(first, images).train(),
        AFTER: finished_net(first, images.shape, images.classes).train(),
    }
    taps = method.student_taps(network)
    with torch.no_grad():
        matrices = {
            name: [matrix.numpy() for matrix in method.targets(net.taps(x, taps))] for name, net in nets.items()
        }
    shuffles = method.permutations(first.spec.draws, network)
    matrices[TEACHER] = [
        m[:, rows.numpy()[:, None], columns.numpy()]
        for m, (rows, columns) in zip(matrices[TEACHER], shuffles, strict=True)
    ]
    pairs = [" to ".join(pair) for pair in method.pairs(taps)]
    return {pair: {name: of_net[number] for name, of_net in matrices.items()} for number, pair in enumerate(pairs)}


def _evenly_spaced(count: int) -> torch.Tensor:
    """The numbers of the test images used, which are sorted by class; long tensor."""
    return torch.linspace(0, count - 1, min(IMAGES, count)).long()


def read(plan: Plan, name: str) -> Matrices:
    """The matrices of a figure's net."""
    ((first,),) = plan.drawn(name)
    return matrices_of(first)


def draw(title: str, matrices: Matrices) -> plt.Figure:
    """Plot the mean matrices, a row for each net and a column for each matrix; each column has one colour scale."""
    sns.set_theme(context="paper", style="white")
    size = (1 + 2.6 * len(matrices), 7.5)
    drawing, grid = plt.subplots(3, len(matrices), figsize=size, squeeze=False, layout="constrained")
    for column, (pair, of_nets) in zip(grid.T, matrices.items(), strict=True):
        means = {name: of_images.mean(0) for name, of_images in of_nets.items()}
        entries = np.concatenate([matrix.ravel() for matrix in means.values()])
        colors = {"vmin": entries.min(), "vmax": entries.max(), "cmap": "mako"}
        for axes, (name, matrix) in zip(column, means.items(), strict=True):
            sns.heatmap(matrix, ax=axes, xticklabels=False, yticklabels=False, rasterized=True, **colors)
            near = f"distance {_distance(of_nets, name):#.3g}, correlation {_correlation(of_nets, name):.2f}"
            axes.set_title(pair if name == TEACHER else near, fontsize=8)
        column[-1].set_xlabel("channels of the later layer")
    for axes, name in zip(grid[:, 0], (TEACHER, BEFORE, AFTER), strict=True):
        axes.set_ylabel(name)
    drawing.suptitle(title, fontsize=10)
    return drawing


def _distance(of_nets: dict[str, np.ndarray], name: str) -> float:
    """The mean squared difference between the entries of a net's mean matrix and its teacher's."""
    return float(((of_nets[name].mean(0) - of_nets[TEACHER].mean(0)) ** 2).mean())


def _correlation(of_nets: dict[str, np.ndarray], name: str) -> float:
    """How alike a net's and its teacher's matrices vary from image to image: of all entries' deviations from their means.

    NaN if those of either do not vary.
    """
    net, teacher = (of_nets[one] - of_nets[one].mean(0) for one in (name, TEACHER))
    size = np.sqrt((net**2).sum() * (teacher**2).sum())
    return float((net * teacher).sum() / size) if size else np.nan


def files(matrices: Matrices) -> dict[str, bytes]:
    """The numbers behind a figure: a row per matrix and net."""
    rows = [
        (pair, name, _distance(of_nets, name), _correlation(of_nets, name), float(of_nets[name].mean()))
        for pair, of_nets in matrices.items()
        for name in of_nets
    ]
    frame = pd.DataFrame(rows, columns=["layers", "net", "distance", "correlation", "mean"])
    return {".csv": frame.to_csv(index=False, float_format="%.4g").encode()}


def on_page(plan: Plan, name: str) -> tuple[str, pd.DataFrame]:
    """The note below a figure, and a table of its numbers."""
    note = (
        f"FSP matrices are means over {IMAGES} test images, spread evenly over the classes (all where there are fewer), the "
        "student's with their statistics, as in training. Distance: the mean squared difference between the entries of two "
        "such means, the student's and the teacher's; the first stage minimises that of each image's matrices. Correlation: "
        "of all entries' deviations from their means, so how far the student's matrices tell images apart as the teacher's do."
    )
    frame = pd.read_csv(Path(plan.preset.results, f"{name}.csv"))
    texts = {column: frame[column].map("{:#.3g}".format) for column in ("distance", "correlation", "mean")}
    return note, frame.assign(**texts).rename(columns={"layers": ""})
