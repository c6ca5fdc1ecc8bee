"""Stopping by validation: the batches of validation images, and when to stop."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from fspkd.engine.batches import Images
from fspkd.engine.trees import each

BUDGET = 2**30  # bytes of a teacher's targets for the validation images


class ValidationBatches:
    """The validation images in batches of at most `size`, whose sizes differ by at most one.

    Iterating gives the input (B, C, H, W), the labels (B,) and the targets of each. The batches are the same each time, and
    so are their targets: they are computed once if they fit into BUDGET.
    """

    def __init__(self, images: Images, size: int, targets: Callable[[Tensor], Any]) -> None:
        """`targets` computes the targets of a batch (B, C, H, W)."""
        self.to_input, self.targets = images.to_input, targets
        count = -(-len(images.validation) // size)
        self.images = images.validation.tensor_split(count)
        self.labels = images.validation_labels.tensor_split(count)
        self.kept: list | None = None  # targets, from the first pass on; empty if they do not fit

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Any]]:
        if self.kept is None:
            self.kept = self._to_keep()
        for number, (batch, labels) in enumerate(zip(self.images, self.labels, strict=True)):
            x = self.to_input(batch)
            yield x, labels, self.kept[number] if self.kept else self.targets(x)

    def _to_keep(self) -> list:
        sizes: list[int] = []
        first = self.targets(self.to_input(self.images[0]))
        each(lambda t: sizes.append(t.nbytes), first)
        if len(self.images) * sum(sizes) > BUDGET:
            return []
        return [first, *(self.targets(self.to_input(batch)) for batch in self.images[1:])]


class Stopping:
    """When to stop, by the values on validation images so far; lower is better.

    `value`: the best yet, and `iteration` its iteration; `ended`: whether there was none better for `patience` iterations.
    The net as it was at the best one is kept on its device.
    """

    def __init__(self, patience: int, net: nn.Module) -> None:
        self.patience, self.net = patience, net
        self.iteration, self.value, self.ended = 0, math.inf, False
        self.best = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def judge(self, iteration: int, value: float) -> None:
        """Record the value at an iteration."""
        if value < self.value:
            self.iteration, self.value = iteration, value
            for name, tensor in self.net.state_dict().items():
                self.best[name].copy_(tensor)
        self.ended = iteration - self.iteration >= self.patience

    def state(self) -> dict[str, Any]:
        """All that later judgements depend on."""
        return {"iteration": self.iteration, "value": self.value, "ended": self.ended, "best": self.best}

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.iteration, self.value, self.ended = state["iteration"], state["value"], state["ended"]
        for name, tensor in state["best"].items():
            self.best[name].copy_(tensor)
