"""Networks with named tap points."""

import importlib

import torch

from fspkd.models.net import Net
from fspkd.networks.network import Network

NETS = {"cifar_resnet": "CifarResNet", "imagenet_resnet": "ImageNetResNet"}  # of the module with the name of the key


def build(network: Network, channels_in: int, classes: int, generator: torch.Generator | None) -> Net:
    """A net of that kind for images (B, channels_in, H, W), its weights drawn from `generator`."""
    # Only that one: torchvision, which some need, takes seconds to import.
    module = importlib.import_module(f"fspkd.models.{network.architecture}")
    return getattr(module, NETS[network.architecture])(network, channels_in, classes, generator)
