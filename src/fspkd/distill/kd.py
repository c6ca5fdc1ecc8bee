"""Knowledge distillation as FitNets use it [Romero et al., ICLR 2015, eq. 2]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fspkd.distill.method import TaughtMethod, float32
from fspkd.lazy import torch
from fspkd.settings import PositiveReal, Real

if TYPE_CHECKING:
    from torch import Tensor, nn


def kd_loss(
    student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, temperature: float, weight: float | Tensor
) -> Tensor:
    """H(y, P_S) + weight * H(P_T^tau, P_S^tau): cross-entropies of logits, without a factor tau^2; mean over images."""
    student_BK, teacher_BK = float32(student_BK), float32(teacher_BK)
    soft_targets = (teacher_BK / temperature).softmax(1)
    cross_entropy = torch.nn.functional.cross_entropy
    return cross_entropy(student_BK, labels_B) + weight * cross_entropy(student_BK / temperature, soft_targets)


class KnowledgeDistillation(TaughtMethod):
    """kd_loss with a weight that falls linearly over the stage."""

    method: Literal["kd"]
    temperature: PositiveReal = 3.0
    weight_start: Annotated[Real, Field(ge=0)] = 4.0
    weight_end: Annotated[Real, Field(ge=0)] = 1.0

    def targets(self, teacher: nn.Module, x: Tensor) -> Tensor:
        """The teacher's logits (B, K)."""
        return teacher(x)

    def loss(self, taps: dict[str, Tensor], modules: dict, targets: Tensor, y: Tensor, progress: Tensor) -> Tensor:
        weight = self.weight_start + (self.weight_end - self.weight_start) * progress
        return kd_loss(taps["logits"], targets, y, self.temperature, weight)
