"""Stochastic gradient descent with classical momentum, whose rate and momentum may change at every iteration."""

import torch
from torch import nn

from fspkd.config.training import HeavyBall as HeavyBallSettings
from fspkd.engine.optimizers import Optimizer, by_rate


class HeavyBall(Optimizer):
    """v = momentum v - rate gradient; weights += v. The memory is v."""

    def __init__(self, groups: list[tuple[float, list[nn.Parameter]]], modules: nn.Module) -> None:
        super().__init__(groups, modules)
        self.factor = torch.zeros_like(self.rate)

    def update(self) -> None:
        torch._foreach_mul_(self.memory, self.factor)
        changes = [parameter.grad.clone() for parameter in self.parameters]
        torch._foreach_sub_(self.memory, self.changes_at_rate(changes))
        torch._foreach_add_(self.parameters, self.memory)


def build(settings: HeavyBallSettings, modules: nn.Module, trained: list[nn.Parameter]) -> HeavyBall:
    """HeavyBall on the trained parameters."""
    return HeavyBall(by_rate(modules, trained), modules)
