"""How weights follow their gradients; each in a module with the name of its `algorithm`."""

import importlib
from typing import Protocol

import torch
from torch import Tensor, nn

from fspkd.config.training import OptimizerSettings
from fspkd.networks.network import UpdateRule


class Optimizer(Protocol):
    """What an iteration asks of an optimizer; all of it works in place, so that it can be captured."""

    parameters: list[nn.Parameter]
    rate: Tensor
    """the learning rate, on the device"""
    factor: Tensor | None
    """the momentum, on the device, where it may change"""

    def zero_grad(self) -> None:
        """Forget all gradients."""

    def step(self) -> None:
        """Update every parameter from its gradient."""

    def state(self) -> list[Tensor]:
        """What a step changes besides the parameters, in an order that a checkpoint can rely on."""


def build(settings: OptimizerSettings, modules: nn.Module, trained: list[nn.Parameter]) -> Optimizer:
    """The optimizer that a preset names, of the trained parameters of some modules."""
    module = importlib.import_module(f"{__name__}.{settings.algorithm}")
    return module.build(settings, modules, trained)


def by_rate(modules: nn.Module, trained: list[nn.Parameter]) -> dict[float, list[nn.Parameter]]:
    """The trained parameters by what the learning rate is multiplied by for them."""
    rules = {id(p): rule for module, rule in _ruled(modules) for p in module.parameters(recurse=False)}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in trained:
        groups.setdefault(rules.get(id(parameter), UpdateRule()).rate, []).append(parameter)
    return groups


class NormLimits:
    """The weights among the trained parameters whose filters may not be longer than a limit."""

    def __init__(self, modules: nn.Module, trained: list[nn.Parameter]) -> None:
        wanted = {id(parameter) for parameter in trained}
        self.limits = [
            (module.weight, rule.limit)
            for module, rule in _ruled(modules)
            if rule.limit is not None and id(module.weight) in wanted
        ]

    @torch.no_grad()
    def keep(self) -> None:
        """Scale down the filters that are too long."""
        for weight, limit in self.limits:
            weight.renorm_(2, 0, limit)


def _ruled(modules: nn.Module) -> list[tuple[nn.Module, UpdateRule]]:
    return [(module, module.update_rule) for module in modules.modules() if hasattr(module, "update_rule")]
