"""Stochastic gradient descent with classical momentum, whose rate and momentum may change at every iteration."""

import torch
from torch import Tensor, nn

from fspkd.config.training import HeavyBall as HeavyBallSettings
from fspkd.engine.optimizers import NormLimits, by_rate


class HeavyBall:
    """v = momentum v - rate gradient; weights += v."""

    def __init__(self, groups: dict[float, list[nn.Parameter]], limits: NormLimits) -> None:
        """`groups`: parameters by what the learning rate is multiplied by."""
        self.groups, self.limits = groups, limits
        self.parameters = [parameter for parameters in groups.values() for parameter in parameters]
        self.rate, self.factor = torch.zeros(2, device=self.parameters[0].device).unbind()
        self.steps = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> list[Tensor]:
        return self.steps

    @torch.no_grad()
    def step(self) -> None:
        torch._foreach_mul_(self.steps, self.factor)
        steps = iter(self.steps)
        for scale, parameters in self.groups.items():
            changes = torch._foreach_mul([parameter.grad for parameter in parameters], self.rate * scale)
            torch._foreach_sub_([next(steps) for _ in parameters], changes)
        torch._foreach_add_(self.parameters, self.steps)
        self.limits.keep()


def build(settings: HeavyBallSettings, modules: nn.Module, trained: list[nn.Parameter]) -> HeavyBall:
    """It on the trained parameters."""
    return HeavyBall(by_rate(modules, trained), NormLimits(modules, trained))
