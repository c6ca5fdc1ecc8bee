"""Networks with named tap points."""

import importlib

import torch

from fspkd.models.net import Net
from fspkd.networks.network import Network


def build(network: Network, shape: tuple[int, int, int], classes: int, generator: torch.Generator | None) -> Net:
    """A net of that architecture for images of `shape` (C, H, W), its weights drawn from `generator`."""
    # Only that module: torchvision, which some need, takes seconds to import.
    module = importlib.import_module(f"fspkd.models.{network.architecture}")
    return module.NET(network, shape, classes, generator)
