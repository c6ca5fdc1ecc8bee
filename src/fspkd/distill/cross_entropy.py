"""Training on the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fspkd.distill.method import Method
from fspkd.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(Method):
    """Cross-entropy with the labels."""

    method: Literal["cross_entropy"]
    """how the stage trains"""

    def loss(self, taps: dict[str, Tensor], modules: dict, targets: None, labels_B: Tensor, progress: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(taps["logits"], labels_B)
