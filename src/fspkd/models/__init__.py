"""Networks with named tap points."""

from fspkd.models.resnet import CifarResNet

__all__ = ["CifarResNet"]
