"""Stochastic gradient descent with momentum."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.sgd import sgd

from fspkd.config.training import Sgd as SgdSettings
from fspkd.engine.optimizers import Optimizer, by_rate


class Sgd(Optimizer):
    """PyTorch's own SGD update, with what a captured iteration needs.

    The learning rate is a tensor on the device, and the momentum buffers exist from the start (zero, which makes the
    first step the same as in torch.optim.SGD). Unlike every torch.optim.Optimizer, it does not import PyTorch's
    compiler: 1.5 seconds of each job.
    """

    def __init__(
        self,
        groups: list[tuple[float, list[nn.Parameter]]],
        modules: nn.Module,
        weight_decays: list[float],
        momentum: float,
        nesterov: bool,
    ) -> None:
        """`weight_decays`: one for each group."""
        super().__init__(groups, modules)
        self.weight_decays, self.momentum, self.nesterov = weight_decays, momentum, nesterov

    def update(self) -> None:
        memory = iter(self.memory)
        for (scale, parameters), weight_decay in zip(self.groups, self.weight_decays, strict=True):
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters],
                [next(memory) for _ in parameters],
                fused=True,
                weight_decay=weight_decay,
                momentum=self.momentum,
                lr=self.rate if scale == 1 else self.rate * scale,
                dampening=0.0,
                nesterov=self.nesterov,
                maximize=False,
            )


def build(settings: SgdSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Sgd:
    """SGD on the trained parameters; without `decay_batchnorm`, batch norms are not decayed."""
    norms: set[int] = set()
    if not settings.decay_batchnorm:
        norms = {id(p) for m in modules.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
    decayed = by_rate(modules, [p for p in trained if id(p) not in norms])
    rest = by_rate(modules, [p for p in trained if id(p) in norms])
    weight_decays = [settings.weight_decay] * len(decayed) + [0.0] * len(rest)
    return Sgd([*decayed, *rest], modules, weight_decays, settings.momentum, bool(settings.nesterov))
