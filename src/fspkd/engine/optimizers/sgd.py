"""Stochastic gradient descent with momentum."""

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from fspkd.config.training import Sgd as SgdSettings


class Sgd:
    """PyTorch's own SGD update, with what a captured iteration needs.

    The learning rate is a tensor on the device, and the momentum is there from the start (zero, which makes the first
    step what it is in torch.optim.SGD). Nor does it import PyTorch's compiler, as every torch.optim.Optimizer does:
    1.5 seconds of each job.
    """

    def __init__(self, groups: list[tuple[list[nn.Parameter], float]], momentum: float, rate: Tensor) -> None:
        """`groups`: parameters and the weight decay that reaches them."""
        self.groups, self.factor, self.rate = groups, momentum, rate
        self.parameters = [parameter for parameters, _ in groups for parameter in parameters]
        self.momentum = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def state(self) -> list[Tensor]:
        return self.momentum

    @torch.no_grad()
    def step(self) -> None:
        momentum = iter(self.momentum)
        for parameters, weight_decay in self.groups:
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters],
                [next(momentum) for _ in parameters],
                fused=True,
                weight_decay=weight_decay,
                momentum=self.factor,
                lr=self.rate,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )


def build(settings: SgdSettings, net: nn.Module, trained: list[nn.Parameter], rate: Tensor) -> Sgd:
    """SGD on the trained parameters of a net; without `decay_batchnorm` no decay reaches its batch norms."""
    norms: set[int] = set()
    if not settings.decay_batchnorm:
        norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    decayed = [p for p in trained if id(p) not in norms]
    rest = [p for p in trained if id(p) in norms]
    groups = [(decayed, settings.weight_decay), *([(rest, 0.0)] if rest else [])]
    return Sgd(groups, settings.momentum, rate)
