"""Residual nets for images of ImageNet's size [He et al. 2016, table 1], from torchvision's modules, to take its weights."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1

from fspkd.models.batch_norm import BatchNorm
from fspkd.models.resnet import ResNet

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect


class Normalise(nn.Module):
    """Normalise images in [0, 1] by ImageNet's mean and standard deviation; grey ones by the channel means of both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("deviation", DEVIATION)):
            tensor = torch.tensor(values if channels == 3 else [sum(values) / 3] * channels)
            self.register_buffer(name, tensor.view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class ImageNetResNet(ResNet):
    """A 7x7 stem of stride 2 with max-pooling, and four sections; a 1x1 convolution where a shortcut changes shape."""

    @staticmethod
    def new_stem(channels_in: int, width: int) -> nn.Sequential:
        return nn.Sequential(
            Normalise(channels_in),
            nn.Conv2d(channels_in, width, 7, 2, 3, bias=False),
            BatchNorm(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )

    @staticmethod
    def residual_module(channels_in: int, channels_out: int, stride: int) -> nn.Module:
        shortcut = None
        if stride > 1 or channels_in != channels_out:
            shortcut = nn.Sequential(conv1x1(channels_in, channels_out, stride), BatchNorm(channels_out))
        return BasicBlock(channels_in, channels_out, stride, shortcut, norm_layer=BatchNorm)


NET = ImageNetResNet


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of torchvision's ResNet under this net's names."""
    names = {"conv1.": "stem.1.", "bn1.": "stem.2.", "fc.": "linear."}
    names |= {f"layer{number}.": f"section{number}." for number in range(1, 5)}
    return {
        next((new + name.removeprefix(old) for old, new in names.items() if name.startswith(old)), name): tensor
        for name, tensor in state.items()
    }
