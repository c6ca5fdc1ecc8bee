"""What all residual nets have in common: stem, sections, global average pooling, a linear layer."""

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fspkd.models.kernels import compiler
from fspkd.models.net import Net
from fspkd.networks.residual import ResidualNetwork


class ResNet(Net):
    """Stem, sections, global average pooling, one linear layer, for images in [0, 1].

    Feature maps: `stem`, `section1`, ... (outputs), `section1.first`, ... (the output of the section's first module). Then
    `pooled`, (B, C), and `logits`, (B, classes). Subclasses implement `new_stem` and `residual_module`. Weights are drawn
    from `generator` by MSRA initialisation: normal, variance 2 / fan-in [He et al. 2015, eq. 10].
    """

    def __init__(
        self, network: ResidualNetwork, shape: tuple[int, int, int], classes: int, generator: torch.Generator | None
    ) -> None:
        super().__init__(network, shape)
        self.stem = self.new_stem(shape[0], network.width)
        width = network.width
        for number, (section, modules) in enumerate(zip(network.sections, network.modules, strict=True)):
            channels = network.channels(section)
            first = self.residual_module(width, channels, stride=1 if number == 0 else 2)
            rest = [self.residual_module(channels, channels, stride=1) for _ in range(modules - 1)]
            self.add_module(section, nn.Sequential(first, *rest))
            width = channels
        self.linear = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @staticmethod
    def new_stem(channels_in: int, width: int) -> nn.Sequential:
        """The modules before the sections; the second is a convolution, and the third its batch norm."""
        raise NotImplementedError

    @staticmethod
    def residual_module(channels_in: int, channels_out: int, stride: int) -> nn.Module:
        """A module with conv1, bn1, conv2, bn2: (B, Cin, H, W) to (B, Cout, H/stride, W/stride)."""
        raise NotImplementedError

    def part(self, name: str, x: Tensor) -> dict[str, Tensor]:
        match name:
            case "stem":
                return {name: self.stem(x)}
            case "pooled":
                return {name: x.mean((2, 3))}
            case "logits":
                return {name: self.linear(x)}
        first, *rest = getattr(self, name)
        taps = {f"{name}.first": (x := first(x))}
        for module in rest:
            x = module(x)
        return {**taps, name: x}

    def compiler(self) -> str | None:
        return compiler()

    def fold(self, precision: torch.dtype) -> None:
        """Fold batch norms into the convolutions before them, which are converted to `precision`.

        One on the input stays: zero padding comes after it, not before.
        """

        def fold(parent: nn.Module, convolution: str, norm: str) -> None:
            fused = fuse_conv_bn_eval(getattr(parent, convolution), getattr(parent, norm)).to(precision)
            setattr(parent, convolution, fused)
            setattr(parent, norm, getattr(getattr(parent, norm), "folded", nn.Identity)())

        fold(self.stem, "1", "2")
        for module in [module for section in self.network.sections for module in getattr(self, section)]:
            fold(module, "conv1", "bn1")
            fold(module, "conv2", "bn2")
            if getattr(module, "downsample", None):
                fold(module.downsample, "0", "1")
