"""A method applied to a net."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from fspkd.distill.method import Method
from fspkd.draws import Draws
from fspkd.models.net import Net, Taps


def in_float32(taps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Features of lower precision converted to float32, which sums of squares need."""
    return {tap: features.to(torch.promote_types(features.dtype, torch.float32)) for tap, features in taps.items()}


class Objective(nn.Module):
    """The loss of a method, with the method's own modules: parameters that are trained along with the student.

    Nets and the method's own modules are computed in a given precision, losses and targets in float32.
    """

    def __init__(self, method: Method, draws: Draws, student: Net, teacher: Net | None) -> None:
        super().__init__()
        self.method = method
        self.student_taps = method.student_taps(student.network)
        self.teacher_taps = method.teacher_taps(teacher.network) if teacher else ()
        self.own = nn.ModuleDict(method.modules(draws, student, teacher))

    @torch.no_grad()
    def targets(self, teacher: Net | None, images_BCHW: Tensor, precision: AbstractContextManager) -> Any:
        """The method's targets for a batch."""
        if not self.teacher_taps:
            return None
        with precision:
            taps = teacher.taps(images_BCHW, self.teacher_taps)
        return self.method.targets(in_float32(taps))

    def embedded(self, student: Taps, images_BCHW: Tensor, precision: AbstractContextManager) -> dict[str, Tensor]:
        """The features that the loss reads, from the taps that `student` computes."""
        with precision:
            taps = self.method.embed(student(images_BCHW, self.student_taps), self.own)
        return in_float32(taps)

    def forward(self, embedded: dict[str, Tensor], targets: Any, labels_B: Tensor, progress: Tensor) -> Tensor:
        """The loss, a mean over the batch."""
        return self.method.loss(embedded, self.own, targets, labels_B, progress)
