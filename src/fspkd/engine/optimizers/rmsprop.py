"""RMSProp with a floor under the root of the mean square, as in pylearn2 [Romero et al., "FitNets", ICLR 2015]."""

import torch
from torch import nn

from fspkd.config.training import Rmsprop as RmspropSettings
from fspkd.engine.optimizers import Optimizer, by_rate


class Rmsprop(Optimizer):
    """E = decay E + (1 - decay) gradient^2, from E = 0; weights -= rate gradient / max(sqrt(E), floor). The memory is E."""

    def __init__(
        self, groups: list[tuple[float, list[nn.Parameter]]], modules: nn.Module, decay: float, floor: float
    ) -> None:
        super().__init__(groups, modules)
        self.decay, self.floor = decay, floor

    def update(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        torch._foreach_mul_(self.memory, self.decay)
        torch._foreach_addcmul_(self.memory, gradients, gradients, value=1 - self.decay)
        roots = torch._foreach_sqrt(self.memory)
        torch._foreach_clamp_min_(roots, self.floor)
        torch._foreach_sub_(self.parameters, self.changes_at_rate(list(torch._foreach_div(gradients, roots))))


def build(settings: RmspropSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Rmsprop:
    """Rmsprop on the trained parameters."""
    return Rmsprop(by_rate(modules, trained), modules, settings.decay, settings.floor)
