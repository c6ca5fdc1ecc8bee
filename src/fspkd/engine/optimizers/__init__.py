"""The optimizers, each in a module with the name of its `algorithm`."""

import importlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fspkd.config.training import OptimizerSettings
from fspkd.networks.network import UpdateRule


class Optimizer:
    """The base class of optimizers; all of it works in place, so that a CUDA graph can capture it.

    `rate`: the learning rate, and `factor`: the momentum if it may change, on the device. `memory`: a tensor for each
    parameter, zero at first. Subclasses implement `update`.
    """

    factor: Tensor | None = None

    def __init__(self, groups: list[tuple[float, list[nn.Parameter]]], modules: nn.Module) -> None:
        """`groups`: multipliers of the learning rate, and the parameters of the modules they apply to."""
        self.groups = groups
        self.parameters = [parameter for _, parameters in groups for parameter in parameters]
        self.memory = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.rate = torch.zeros((), device=self.parameters[0].device)
        wanted = {id(parameter) for parameter in self.parameters}
        self.limits = [
            (module.weight, rule.limit)
            for module, rule in _ruled(modules)
            if rule.limit is not None and id(module.weight) in wanted
        ]

    def zero_grad(self) -> None:
        """Discard all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter from its gradient; then scale down the filters whose norm exceeds their limit."""
        self.update()
        for weight, limit in self.limits:
            weight.renorm_(2, 0, limit)

    def update(self) -> None:
        """Update the parameters, and their memory, from their gradients."""
        raise NotImplementedError

    def state(self) -> list[Tensor]:
        """What a step changes besides the parameters, in an order that a checkpoint can rely on."""
        return self.memory

    def changes_at_rate(self, changes: list[Tensor]) -> list[Tensor]:
        """Multiply each parameter's change by its learning rate, in place."""
        of_parameter = iter(changes)
        for scale, parameters in self.groups:
            torch._foreach_mul_([next(of_parameter) for _ in parameters], self.rate * scale)
        return changes


def build(settings: OptimizerSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Optimizer:
    """The optimizer that a preset names, for the trained parameters of some modules."""
    module = importlib.import_module(f"{__name__}.{settings.algorithm}")
    return module.build(settings, modules, trained)


def by_rate(modules: nn.Module, trained: list[nn.Parameter]) -> list[tuple[float, list[nn.Parameter]]]:
    """The trained parameters, grouped by the multiplier of their learning rate."""
    rules = {id(p): rule for module, rule in _ruled(modules) for p in module.parameters(recurse=False)}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in trained:
        groups.setdefault(rules.get(id(parameter), UpdateRule()).rate, []).append(parameter)
    return list(groups.items())


def _ruled(modules: nn.Module) -> Iterator[tuple[nn.Module, UpdateRule]]:
    return ((module, module.update_rule) for module in modules.modules() if hasattr(module, "update_rule"))
