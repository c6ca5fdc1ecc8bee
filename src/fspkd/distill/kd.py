"""Knowledge distillation as FitNets use it [Romero et al., ICLR 2015, eq. 2]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.settings import PositiveReal, Real

if TYPE_CHECKING:
    from torch import Tensor


def kd_loss(
    student_BK: Tensor,
    teacher_BK: Tensor,
    labels_B: Tensor,
    temperature: float,
    weight: float | Tensor,
    soften_student: bool = True,
) -> Tensor:
    """H(y, P_S) + weight * H(P_T^tau, P_S^tau): cross-entropies of logits, without a factor tau^2; mean over images.

    `soften_student`: without it the second term is H(P_T^tau, P_S), as in the authors' code.
    """
    soft_targets = (teacher_BK / temperature).softmax(1)
    softened_BK = student_BK / temperature if soften_student else student_BK
    cross_entropy = torch.nn.functional.cross_entropy
    return cross_entropy(student_BK, labels_B) + weight * cross_entropy(softened_BK, soft_targets)


class KnowledgeDistillation(TaughtMethod):
    """Cross-entropy with the labels and, weighted, with the teacher's softened outputs; the weight falls linearly."""

    targets_are_of_images: ClassVar[bool] = True
    method: Literal["kd"]
    """how the stage trains"""
    temperature: PositiveReal = 3.0
    """tau, by which logits are divided"""
    weight_start: Annotated[Real, Field(ge=0)] = 4.0
    """lambda at the first iteration"""
    weight_end: Annotated[Real, Field(ge=0)] = 1.0
    """lambda at the last iteration"""
    soften_student: Literal[False] | None = None
    """false: only the teacher's logits are divided by tau, as in the authors' code"""

    def targets(self, taps: dict[str, Tensor]) -> Tensor:
        """The teacher's logits (B, K)."""
        return taps["logits"]

    def loss(
        self, taps: dict[str, Tensor], modules: dict, targets: Tensor, labels_B: Tensor, progress: Tensor
    ) -> Tensor:
        weight = self.weight_start + (self.weight_end - self.weight_start) * progress
        return kd_loss(taps["logits"], targets, labels_B, self.temperature, weight, self.soften_student is None)
