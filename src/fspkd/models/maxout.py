"""Maxout networks [Goodfellow et al., ICML 2013], such as FitNets [Romero et al., ICLR 2015] and their teachers."""

from collections.abc import Callable
from math import prod, tau
from typing import Any

import torch
from torch import Tensor, nn

from fspkd.draws import Draws
from fspkd.models.dropout import Dropout
from fspkd.models.net import Net
from fspkd.networks.maxout import MaxoutLayer, MaxoutNetwork
from fspkd.networks.network import UpdateRule


class _Maximum(torch.autograd.Function):
    """The elementwise maximum of chunks of the channels; of equal ones the first gets the gradient, as in Theano.

    The gradients of torch.maximum and amax, which split it among equal ones, take five to ten times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, pieces: int) -> Tensor:
        highest, *others = x.chunk(pieces, 1)
        later_wins = []
        for piece in others:
            if ctx.needs_input_grad[0]:
                later_wins.append(piece > highest)
            highest = torch.maximum(highest, piece)
        ctx.save_for_backward(*later_wins)
        return highest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradients = []
        for wins in reversed(ctx.saved_tensors):
            gradients.append(gradient * wins)
            gradient = gradient - gradients[-1]
        return torch.cat([gradient, *reversed(gradients)], 1), None


class Maxout(nn.Module):
    """The maximum over pieces: (B, pieces C, ...) to (B, C, ...).

    The first pieces of all channels come first, then the second ones: merely an order of filters, in which the pieces are
    contiguous in memory, channels last. The authors' code has a channel's pieces side by side.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return _Maximum.apply(x, self.pieces) if self.pieces > 1 else x


def gain(pieces: int) -> float:
    """The factor for normal weights of variance 1 / fan-in with which outputs have the mean square of the inputs.

    1 / sqrt(E[max^2]) of `pieces` standard normal numbers: 1 for one or two, 0.745 for five.
    """
    z = torch.linspace(-10, 10, 2001, dtype=torch.float64, device="cpu")
    density = pieces * torch.special.ndtr(z) ** (pieces - 1) * torch.exp(-(z**2) / 2) / tau**0.5
    return round(((z**2 * density).sum().item() * 0.01) ** -0.5, 6)


class MaxoutNet(Net):
    """Layers of maxout units, convolutional and max-pooled or fully connected, and a linear layer; no batch norm.

    Feature maps: `layer1`, `layer2`, ..., (B, C, H, W) after the pooling, or (B, units) of fully connected layers; then
    `logits`, (B, classes). Weights are drawn from `generator` as `network.init` says, biases are 0. Convolutions and
    linear layers carry their UpdateRule.
    """

    def __init__(
        self, network: MaxoutNetwork, shape: tuple[int, int, int], classes: int, generator: torch.Generator | None
    ) -> None:
        super().__init__(network, shape)
        inputs = shape
        for tap, layer in zip(network.parts, network.layers, strict=False):
            weighted = _weighted(layer, inputs)
            weighted.update_rule = UpdateRule(layer.rate, layer.limit)
            _initialise(weighted, network.init, layer.pieces, generator)
            if layer.conv:
                stride = layer.stride or layer.pool
                pooling = [nn.MaxPool2d(layer.pool, stride, ceil_mode=True)] if layer.pool else []
                self.add_module(tap, nn.Sequential(weighted, Maxout(layer.pieces), *pooling))
            else:
                self.add_module(tap, nn.Sequential(nn.Flatten(), weighted, Maxout(layer.pieces)))
            inputs = (network.channels(tap), *(network.size(tap, pixels) for pixels in shape[1:]))
        self.linear = nn.Linear(prod(inputs), classes)
        self.linear.update_rule = UpdateRule(limit=network.softmax_limit)
        _initialise(self.linear, network.init, 1, generator)
        image, hidden = network.keep.image, network.keep.hidden
        rules = dict.fromkeys(self.parts, (hidden, 1 / hidden)) | {self.parts[0]: (image, 1.0)}
        self.dropouts = nn.ModuleDict({part: Dropout(*rule) for part, rule in rules.items() if rule[0] < 1})

    def part(self, name: str, x: Tensor) -> dict[str, Tensor]:
        if self.training and name in self.dropouts:
            x = self.dropouts[name](x)
        return {name: self.linear(x.flatten(1)) if name == "logits" else getattr(self, name)(x)}

    def regressor(
        self, tap: str, channels: int, kernel: tuple[int, int], init: float | None, generator: torch.Generator
    ) -> nn.Sequential:
        pieces = self.network.layer(tap).pieces
        conv = nn.Conv2d(channels, self.network.channels(tap) * pieces, kernel)
        _initialise(conv, "unit" if init is None else init, pieces, generator)
        return nn.Sequential(conv, Maxout(pieces))

    def randomise(self, draws: Draws, iteration: Callable[[], Tensor]) -> None:
        for part, dropout in self.dropouts.items():
            dropout.randomise(draws, f"dropout {part}", iteration)


def _weighted(layer: MaxoutLayer, inputs: tuple[int, int, int]) -> nn.Conv2d | nn.Linear:
    """The convolution, or linear layer, of all pieces of a layer with inputs (C, H, W)."""
    if layer.conv:
        return nn.Conv2d(inputs[0], layer.conv * layer.pieces, layer.kernel, padding=layer.pad)
    return nn.Linear(prod(inputs), layer.full * layer.pieces)


def _initialise(
    module: nn.Conv2d | nn.Linear, init: float | str, pieces: int, generator: torch.Generator | None
) -> None:
    if init == "unit":
        nn.init.normal_(module.weight, std=gain(pieces) * module.weight[0].numel() ** -0.5, generator=generator)
    else:
        nn.init.uniform_(module.weight, -init, init, generator=generator)
    nn.init.zeros_(module.bias)


NET = MaxoutNet
