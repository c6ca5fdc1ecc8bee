"""RMSProp with a floor under the root of the mean square, as pylearn2 has it [Romero et al., "FitNets", ICLR 2015]."""

import torch
from torch import Tensor, nn

from fspkd.config.training import Rmsprop as RmspropSettings
from fspkd.engine.optimizers import NormLimits, by_rate


class Rmsprop:
    """E = decay E + (1 - decay) gradient^2, from E = 0; weights -= rate gradient / max(sqrt(E), floor)."""

    factor = None

    def __init__(self, groups: dict[float, list[nn.Parameter]], decay: float, floor: float, limits: NormLimits) -> None:
        """`groups`: parameters by what the learning rate is multiplied by."""
        self.groups, self.decay, self.floor, self.limits = groups, decay, floor, limits
        self.parameters = [parameter for parameters in groups.values() for parameter in parameters]
        self.rate = torch.zeros((), device=self.parameters[0].device)
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> list[Tensor]:
        return self.squares

    @torch.no_grad()
    def step(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        torch._foreach_mul_(self.squares, self.decay)
        torch._foreach_addcmul_(self.squares, gradients, gradients, value=1 - self.decay)
        roots = torch._foreach_sqrt(self.squares)
        torch._foreach_clamp_min_(roots, self.floor)
        changes = iter(torch._foreach_div(gradients, roots))
        for scale, parameters in self.groups.items():
            own = [next(changes) for _ in parameters]
            torch._foreach_mul_(own, self.rate * scale)
            torch._foreach_sub_(parameters, own)
        self.limits.keep()


def build(settings: RmspropSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Rmsprop:
    """It on the trained parameters."""
    return Rmsprop(by_rate(modules, trained), settings.decay, settings.floor, NormLimits(modules, trained))
