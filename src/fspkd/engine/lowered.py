"""Weights in lower precision, for nets whose own are float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class LoweredWeights:
    """Copies of the weights of convolutions and linear layers, which autocast would cast one by one.

    Here all weights are cast at once, as are their gradients, to the same bits: two operations, not two per layer.
    """

    def __init__(self, net: nn.Module, precision: torch.dtype) -> None:
        layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        self.places = [(layer, name) for layer in layers for name, _ in layer.named_parameters(recurse=False)]
        self.weights = [getattr(layer, name) for layer, name in self.places]
        self.copies = [nn.Parameter(weight.detach().to(precision), weight.requires_grad) for weight in self.weights]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A context in which the layers compute with the copies."""
        with torch.no_grad():
            torch._foreach_copy_(self.copies, self.weights)
        self._put(self.copies)
        try:
            yield
        finally:
            self._put(self.weights)

    def hand_over_gradients(self) -> None:
        """Move the copies' gradients to the weights, plus any in float32 from a loss that uses the weights directly."""
        reached = [(w, copy) for w, copy in zip(self.weights, self.copies, strict=True) if copy.grad is not None]
        used_by_loss = [(weight, weight.grad) for weight, _ in reached if weight.grad is not None]
        for weight, _ in reached:
            weight.grad = torch.empty_like(weight)
        torch._foreach_copy_([weight.grad for weight, _ in reached], [copy.grad for _, copy in reached])
        for weight, gradient in used_by_loss:
            weight.grad.add_(gradient)
        for _, copy in reached:
            copy.grad = None

    def _put(self, parameters: list[nn.Parameter]) -> None:
        for (layer, name), parameter in zip(self.places, parameters, strict=True):
            setattr(layer, name, parameter)
