"""How weights follow their gradients; each in a module with the name of its `algorithm`."""

import importlib
from typing import Protocol

from torch import Tensor, nn

from fspkd.config.training import OptimizerSettings


class Optimizer(Protocol):
    """What an iteration asks of an optimizer; all of it works in place, so that it can be captured."""

    parameters: list[nn.Parameter]
    rate: Tensor  # the learning rate, on the device

    def zero_grad(self) -> None:
        """Forget all gradients."""

    def step(self) -> None:
        """Update every parameter from its gradient."""

    def state(self) -> list[Tensor]:
        """What a step changes besides the parameters, in an order that a checkpoint can rely on."""


def build(settings: OptimizerSettings, net: nn.Module, trained: list[nn.Parameter], rate: Tensor) -> Optimizer:
    """The optimizer that a preset names, of the trained parameters of a net."""
    module = importlib.import_module(f"{__name__}.{settings.algorithm}")
    return module.build(settings, net, trained, rate)
