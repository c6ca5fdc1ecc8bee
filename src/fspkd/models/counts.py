"""Counts of a net's weights and multiplications, as in the FitNets paper [Romero et al., ICLR 2015, Table 5]."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from fspkd.models import build
from fspkd.networks.network import Network


class Counts(NamedTuple):
    """A net's counts."""

    layers: int
    """with weights, on the longest path through it"""
    weights: int
    """of convolutions and linear layers, without biases and batch norms"""
    multiplications: int
    """by these, for one image"""


def counts(network: Network, shape: tuple[int, int, int], classes: int) -> Counts:
    """The counts of a network for images of `shape` (C, H, W), from a net built without drawing weights."""
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        net = build(network, shape, classes, None).eval()
        net(torch.empty(1, *shape))
    weights = sum(p.numel() for p in net.parameters() if p.dim() > 1)
    return Counts(network.layer_count, weights, flops.get_total_flops() // 2)  # a multiplication and an addition each
