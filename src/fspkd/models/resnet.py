"""What all residual nets have in common: stem, sections, global average pooling, a linear layer, and taps."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fspkd.networks import ResidualNetwork


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d without its count of batches, which nothing reads and which costs each step a kernel a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class ResNet(nn.Module):
    """Stem, sections, global average pooling, one linear layer, with a tap after each.

    Feature maps: `stem`, `section1`, ... (outputs), `section1.first`, ... (the output of the section's first module). Then
    `pooled`, (B, C), and `logits`, (B, classes). What derives from this gives `new_stem` and `residual_module`. Weights are
    drawn from `generator` by MSRA initialisation: normal, variance 2 / fan-in [He et al. 2015, eq. 10].
    """

    def __init__(
        self, network: ResidualNetwork, channels_in: int, classes: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.network = network
        self.stages = ("stem", *network.sections, "pooled", "logits")
        self.stem = self.new_stem(channels_in, network.width)
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
        """What is before the sections: of its modules the second is a convolution, and the third its batch norm."""
        raise NotImplementedError

    @staticmethod
    def residual_module(channels_in: int, channels_out: int, stride: int) -> nn.Module:
        """A module with conv1, bn1, conv2, bn2: (B, Cin, H, W) to (B, Cout, H/stride, W/stride)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        return self.taps(x, ("logits",))["logits"]

    def taps(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The feature maps (B, C, H, W) at the named taps; computes nothing beyond the last of them."""
        found = {}
        for stage in self.stages_to(names):
            match stage:
                case "stem":
                    x = self.stem(x)
                case "pooled":
                    x = x.mean((2, 3))
                case "logits":
                    x = self.linear(x)
                case section:
                    first, *rest = getattr(self, section)
                    x = first(x)
                    if f"{section}.first" in names:
                        found[f"{section}.first"] = x
                    for module in rest:
                        x = module(x)
            if stage in names:
                found[stage] = x
        return found

    def folded(self, precision: torch.dtype) -> "ResNet":
        """A frozen copy for evaluation, its batch norms folded into the convolutions before them, which get `precision`.

        One on the input stays: a convolution pads with zeros after it, not before.
        """
        net = copy.deepcopy(self).eval()

        def fold(parent: nn.Module, convolution: str, norm: str) -> None:
            fused = fuse_conv_bn_eval(getattr(parent, convolution), getattr(parent, norm)).to(precision)
            setattr(parent, convolution, fused)
            setattr(parent, norm, nn.Identity())

        fold(net.stem, "1", "2")
        for module in [module for section in net.network.sections for module in getattr(net, section)]:
            fold(module, "conv1", "bn1")
            fold(module, "conv2", "bn2")
            if getattr(module, "downsample", None):
                fold(module.downsample, "0", "1")
        return net.requires_grad_(False)

    def stages_to(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that the named taps need, in order."""
        last = max(self.stages.index(name.split(".")[0]) for name in names)
        return self.stages[: last + 1]

    def parameters_to(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """The parameters that the named taps depend on, in the order of the net's own."""
        wanted = {"linear" if stage == "logits" else stage for stage in self.stages_to(names)}
        return [p for name, module in self.named_children() if name in wanted for p in module.parameters()]
