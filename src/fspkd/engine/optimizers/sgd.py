"""Stochastic gradient descent with momentum."""

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from fspkd.config.training import Sgd as SgdSettings
from fspkd.engine.optimizers import NormLimits, by_rate


class Sgd:
    """PyTorch's own SGD update, with what a captured iteration needs.

    The learning rate is a tensor on the device, and the momentum is there from the start (zero, which makes the first
    step what it is in torch.optim.SGD). Nor does it import PyTorch's compiler, as every torch.optim.Optimizer does:
    1.5 seconds of each job.
    """

    factor = None

    def __init__(
        self, groups: list[tuple[list[nn.Parameter], float, float]], momentum: float, limits: NormLimits
    ) -> None:
        """`groups`: parameters, the weight decay that reaches them, and what the learning rate is multiplied by."""
        self.groups, self.momentum, self.limits = groups, momentum, limits
        self.parameters = [parameter for parameters, _, _ in groups for parameter in parameters]
        self.rate = torch.zeros((), device=self.parameters[0].device)
        self.steps = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> list[Tensor]:
        return self.steps

    @torch.no_grad()
    def step(self) -> None:
        steps = iter(self.steps)
        for parameters, weight_decay, scale in self.groups:
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters],
                [next(steps) for _ in parameters],
                fused=True,
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=self.rate if scale == 1 else self.rate * scale,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
        self.limits.keep()


def build(settings: SgdSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Sgd:
    """SGD on the trained parameters; without `decay_batchnorm` no decay reaches batch norms."""
    norms: set[int] = set()
    if not settings.decay_batchnorm:
        norms = {id(p) for m in modules.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    decayed = [p for p in trained if id(p) not in norms]
    rest = [p for p in trained if id(p) in norms]
    groups = [
        (parameters, decay, scale)
        for parameters_of, decay in ((decayed, settings.weight_decay), (rest, 0.0))
        for scale, parameters in by_rate(modules, parameters_of).items()
    ]
    return Sgd(groups, settings.momentum, NormLimits(modules, trained))
