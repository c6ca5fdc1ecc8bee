"""The engine, and its ceiling, on the cases of the benchmark."""

from collections.abc import Callable
from functools import partial

import torch

from fspkd.data.packed import load_packed
from fspkd.engine import device, tabulated
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.step import Step
from fspkd.runs.spec import Run
from fspkd.train.loop import Loop
from fspkd.train.session import Session

Go = Callable[[int], None]


def make_loop(runs: list[Run], on: torch.device) -> Loop:
    images = Images(load_packed(runs[0].data.path), runs[0].spec.augment, on)
    return Loop([Session(run, images, device.new_stream(on)) for run in runs], checkpoint_seconds=1e9, stopped=[])


def engine_way(case: str, runs: list[Run], on: torch.device) -> Go:
    loop = make_loop(runs, on)
    due = 0

    def go(iterations: int) -> None:
        nonlocal due
        due += iterations
        while loop.sessions[0].member.done < due:  # a block may end beyond it: the next call is then shorter
            loop.advance()
            assert not loop.failures, loop.failures

    return go


def untabulated_way(case: str, runs: list[Run], on: torch.device) -> Go:
    """The engine with no room for a table of what the teacher gives."""
    tabulated.BUDGET = 0
    return engine_way(case, runs, on)


def ceiling_way(case: str, runs: list[Run], on: torch.device) -> Go:
    steps = make_loop(runs, on).steps
    images = steps[0].members[0].images
    x = images.to_input(images.test.repeat(2, 1, 1, 1)[: runs[0].spec.training.batch_size])
    y = images.train_labels[: len(x)]
    part = torch.zeros((), device=on)

    def descend(step: Step) -> None:
        for member, _ in step.gradients(x, y, part):
            member.optimizer.step()

    captured = [
        Captured(partial(descend, step), lambda step=step: [t for m in step.members for t in m.changed()], step.stream)
        for step in steps
    ]

    def go(iterations: int) -> None:
        for _ in range(iterations):
            for one in captured:
                one()
        if on.type == "cuda":
            torch.cuda.synchronize()

    return go


WAYS = {"engine": untabulated_way, "tabulated": engine_way, "ceiling": ceiling_way}
