"""What every objective is."""

from typing import Any

import torch
from torch import Tensor, nn


class Objective(nn.Module):
    """What a stage trains for: a module that gives the loss.

    It is made from (settings, seed, stream, student's network, teacher's network). `student_taps` are the feature maps
    that the loss reads, and only layers up to the last of them are trained; empty where it reads the logits. Its own
    parameters (a hint's regressors, say) are trained along and thrown away after.
    """

    student_taps: tuple[str, ...] = ()

    def targets(self, teacher: nn.Module | None, images_BCHW: Tensor) -> Any:
        """What the teacher gives for a batch: the same for all students that see it. Called without gradients."""
        return None

    def forward(
        self, student: nn.Module, targets: Any, images_BCHW: Tensor, labels_B: Tensor, progress: Tensor
    ) -> Tensor:
        """The loss, a mean over the batch; `progress` runs from 0 to 1 over the stage."""
        raise NotImplementedError


def float32(features: Tensor) -> Tensor:
    """Features in float32, should they be of lower precision: sums of many squares need it."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
