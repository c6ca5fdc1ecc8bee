"""Networks with named tap points."""

import torch

from fspkd.models.resnet import ResNet
from fspkd.networks import ResidualNetwork


def build(network: ResidualNetwork, channels_in: int, classes: int, generator: torch.Generator | None) -> ResNet:
    """A net of that kind for images (B, channels_in, H, W), its weights drawn from `generator`."""
    if network.architecture == "imagenet_resnet":
        from fspkd.models.imagenet import ImageNetResNet as Net  # only here: torchvision takes seconds to import
    else:
        from fspkd.models.cifar import CifarResNet as Net
    return Net(network, channels_in, classes, generator)
