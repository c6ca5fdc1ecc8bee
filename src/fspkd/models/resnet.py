"""CIFAR residual nets of 6n+2 layers [He et al. 2016, section 4.2], as the FSP paper uses them."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fspkd.config import Network


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d without its count of batches, which nothing reads and which costs each step a kernel a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )


class ResidualModule(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the shortcut, then ReLU: (B, Cin, H, W) to (B, Cout, H/stride, W/stride).

    The shortcut has no parameters: it subsamples, and fills the new channels with zeros.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm(channels_out)
        self.stride = stride
        self.new_channels = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True)))
        if self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)  # every stride-th pixel, and its gradient keeps the layout
        if self.new_channels:
            x = F.pad(x, (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(y.add_(x), inplace=True)


class CifarResNet(nn.Module):
    """Stem, three sections of n modules, global average pooling, one linear layer.

    Taps are named `stem`, `section1` to `section3` (outputs), and `section1.first` to `section3.first` (the output
    of the section's first module). Weights are drawn from `generator` by MSRA initialisation: normal, variance
    2 / fan-in [He et al. 2015, eq. 10].
    """

    STAGES = ("stem", "section1", "section2", "section3")

    def __init__(self, network: Network, channels_in: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        modules = (network.depth - 2) // 6
        width = network.width
        self.stem = nn.Sequential(
            BatchNorm(channels_in),
            nn.Conv2d(channels_in, width, 3, 1, 1, bias=False),
            BatchNorm(width),
            nn.ReLU(inplace=True),
        )
        self.section1 = self._section(modules, width, width, 1)
        self.section2 = self._section(modules, width, 2 * width, 2)
        self.section3 = self._section(modules, 2 * width, 4 * width, 2)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @staticmethod
    def _section(modules: int, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        rest = [ResidualModule(channels_out, channels_out, 1) for _ in range(modules - 1)]
        return nn.Sequential(ResidualModule(channels_in, channels_out, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to logits (B, classes)."""
        return self.linear(self.taps(x, ("section3",))["section3"].mean((2, 3)))

    def taps(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The feature maps (B, C, H, W) at the named taps; computes nothing beyond the last of them."""
        found = {}
        for stage in self.stages_to(names):
            blocks = [getattr(self, stage)] if stage == "stem" else getattr(self, stage)
            for number, block in enumerate(blocks):
                x = block(x)
                if number == 0 and f"{stage}.first" in names:
                    found[f"{stage}.first"] = x
            if stage in names:
                found[stage] = x
        return found

    def folded(self, precision: torch.dtype) -> "CifarResNet":
        """A frozen copy for evaluation, its batch norms folded into the convolutions before them, which get `precision`.

        The one on the input stays: a convolution pads with zeros after it, not before.
        """
        net = copy.deepcopy(self).eval().requires_grad_(False)
        net.stem[1], net.stem[2] = fuse_conv_bn_eval(net.stem[1], net.stem[2]).to(precision), nn.Identity()
        for module in net.modules():
            if isinstance(module, ResidualModule):
                module.conv1, module.bn1 = fuse_conv_bn_eval(module.conv1, module.bn1).to(precision), nn.Identity()
                module.conv2, module.bn2 = fuse_conv_bn_eval(module.conv2, module.bn2).to(precision), nn.Identity()
        return net.requires_grad_(False)

    @classmethod
    def stages_to(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """The stages that the named taps need, in order."""
        last = max(cls.STAGES.index(name.split(".")[0]) for name in names)
        return cls.STAGES[: last + 1]

    def parameters_to(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """The parameters that the named taps depend on."""
        return [p for stage in self.stages_to(names) for p in getattr(self, stage).parameters()]

    @staticmethod
    def channels(network: Network, tap: str) -> int:
        """The channels of the feature map at a tap."""
        return network.width * {"stem": 1, "section1": 1, "section2": 2, "section3": 4}[tap.split(".")[0]]
