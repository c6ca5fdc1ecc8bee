"""Accuracy, size and speed of nets beside their teacher's, as in the FitNets paper's Table 5; times are this machine's."""

import time
from collections.abc import Callable
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_integer_dtype
from torch import Tensor

from fspkd.config.results import InferenceTime
from fspkd.data.packed import load_data
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.device import new_stream
from fspkd.models.counts import counts
from fspkd.models.net import Net
from fspkd.plan import Plan
from fspkd.report.predictions import correct_by_image
from fspkd.report.stats import paired_ratio
from fspkd.report.tables import PUBLISHED, as_texts, read_published
from fspkd.report.timings import MACHINE, measured_on
from fspkd.runs.spec import Run, check_finished
from fspkd.train.machine import description
from fspkd.train.nets import finished_net

BATCH = 128
ROUNDS, TURNS = 5, 3  # rounds; turns of each net in a round
SECONDS, LEAST = 10.0, 2  # about, for the slowest net's turn; least batches in a turn
FORMS = {  # for readers
    "layers": "{:.0f}",
    "weights": "{:,.0f}",
    "multiplications": "{:,.0f}",
    "accuracy": "{:.2f}",
    "speed_up": "{:.2f}",
    "compression": "{:.2f}",
}


def measure(plan: Plan, name: str, device: torch.device) -> pd.DataFrame:
    """A line for each net of the first replicate, with the published values beside ours.

    Columns: row; layers, weights and multiplications, see Counts; accuracy in percent; speed_up over the teacher, low and
    high, its 95 % interval over rounds; compression, the teacher's weights over the net's; seconds for all test images,
    the geometric mean over rounds, and those of each round: round1, round2, ...; device, processor, threads. A column with
    published values is followed by `..._published`. Raises UserError if a net is not finished.
    """
    settings = cast(InferenceTime, plan.preset.timings[name])
    runs = {label: plan.net(net) for label, net in settings.rows.items()}
    check_finished(runs.values())
    one = plan.net(settings.teacher)
    images = Images(load_data(one.data), one.spec.augment, device)
    frame = pd.DataFrame([_worth(run, images) for run in runs.values()], pd.Index(runs, name="row"))
    rounds = seconds_per_round(list(runs.values()), images)
    teacher = list(runs).index(settings.teacher_label)
    speed_ups = [paired_ratio(rounds[teacher], of_net) for of_net in rounds]
    for column, of_estimate in (("speed_up", "value"), ("low", "low"), ("high", "high")):
        frame[column] = [getattr(estimate, of_estimate) for estimate in speed_ups]
    frame["compression"] = frame["weights"].iloc[teacher] / frame["weights"]
    frame["seconds"] = np.exp(np.log(rounds).mean(1))
    frame[[f"round{number}" for number in range(1, ROUNDS + 1)]] = rounds
    described = description(device)
    frame = frame.assign(**{column: described[column] for column in MACHINE})
    return _with_published(frame, settings.reference).reset_index()


def _worth(run: Run, images: Images) -> dict[str, float]:
    accuracy = 100 * correct_by_image([run])[0].mean()
    return {**counts(run.spec.network, images.shape, images.classes)._asdict(), "accuracy": accuracy}


def _with_published(frame: pd.DataFrame, reference: str | None) -> pd.DataFrame:
    """Insert each column of published values, if there is one, after ours; counts stay whole numbers."""
    published = read_published(reference).reindex(index=frame.index)
    for column in FORMS:
        if column in published:
            kind = "Int64" if is_integer_dtype(frame[column]) else "float64"
            frame.insert(frame.columns.get_loc(column) + 1, column + PUBLISHED, published[column].astype(kind))
    return frame


def shown_timing(frame: pd.DataFrame) -> pd.DataFrame:
    """A comparison formatted for readers: a text per cell, 'ours (published)'."""
    shown = {"": frame["row"]}
    for column, form in FORMS.items():
        shown[column.replace("_", "-")] = as_texts(frame[column], form)
        if column + PUBLISHED in frame:
            shown[column.replace("_", "-")] += as_texts(frame[column + PUBLISHED], form).map(" ({})".format)
        if column == "speed_up":
            ends = zip(frame["low"], frame["high"], strict=True)
            shown["95 % interval"] = [f"{low:.2f} to {high:.2f}" if low < high else "" for low, high in ends]
    return pd.DataFrame(shown)


def how(frame: pd.DataFrame) -> str:
    """A text on what was timed, and on which machine."""
    published = " Published values are in brackets." if any(frame.filter(like=PUBLISHED)) else ""
    return (
        f"Speed-ups are for computing all test images in batches of {BATCH}, in float32, on {measured_on(frame)}; their "
        f"intervals are over {ROUNDS} rounds. Weights, and multiplications for one image, are those of convolutions and linear "
        f"layers, without biases.{published}"
    )


def seconds_per_round(runs: list[Run], images: Images) -> np.ndarray:
    """The seconds that each net takes for all test images, in each round: (nets, ROUNDS).

    Nets compute whole batches in float32, in evaluation mode; images left over after the last one are assumed to take as
    long as the others. Within a round nets take turns, and the median of a net's turns counts, so that brief load from
    other processes does not. On a slow device a turn is a part of the images, the same for all nets.
    """
    batches = whole_batches(images)
    nets = [_frozen(run, images) for run in runs]
    for net in nets:
        compute(net, batches[:1])  # so that memory is allocated and kernels are loaded
    slowest = max(_seconds(partial(compute, net, batches[:1]), images.device) for net in nets)
    batches = batches[: max(LEAST, round(SECONDS / slowest))]
    stream = new_stream(images.device)
    turns = [Captured(partial(compute, net, batches), list, stream) for net in nets]
    for turn in turns:
        turn()  # warms up
    taken = [[_seconds(turn, images.device) for turn in turns] for _ in range(ROUNDS * TURNS)]
    of_all = len(images.test) / sum(map(len, batches))
    return of_all * np.median(np.reshape(taken, (ROUNDS, TURNS, len(nets))), axis=1).T


@torch.no_grad()
def compute(net: Net, batches: list[Tensor]) -> None:
    """Compute the logits of batches."""
    for batch in batches:
        net(batch)


def whole_batches(images: Images) -> list[Tensor]:
    """The test images as input for nets, in whole batches: (BATCH, C, H, W) each, or all images if they are fewer."""
    size = min(BATCH, len(images.test))
    return [images.to_input(batch) for batch in images.test.split(size) if len(batch) == size]


def _frozen(run: Run, images: Images) -> Net:
    net = finished_net(run, images.shape, images.classes).frozen(torch.float32)
    return net.to(device=images.device, memory_format=torch.channels_last)


def _seconds(function: Callable[[], None], device: torch.device) -> float:
    """How long a call takes, on a GPU until its work is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
