"""Relational knowledge distillation [Park et al., CVPR 2019, eqs. 4 to 9]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.settings import Real

if TYPE_CHECKING:
    from torch import Tensor

    from fspkd.networks.network import Network


def distances(embedding_BC: Tensor) -> Tensor:
    """The distances between the images of a batch, relative to their mean, (B, B), eqs. 4 and 5."""
    squares = (embedding_BC[:, None] - embedding_BC).square().sum(2)
    apart = ~torch.eye(len(squares), dtype=torch.bool, device=squares.device)
    # The square root's slope at 0 is infinite, so an image's distance to itself is masked out first.
    root = torch.where(apart, squares, 1.0).clamp(min=1e-12).sqrt() * apart
    return root / (root.sum() / apart.sum())


def angles(embedding_BC: Tensor) -> Tensor:
    """The cosines of the angles that three images form at the first of them, (B, B, B), eq. 7."""
    directions = torch.nn.functional.normalize(embedding_BC - embedding_BC[:, None], dim=2)
    return directions @ directions.transpose(1, 2)


class RelationalKd(TaughtMethod):
    """Cross-entropy, and Huber losses of distances and angles between the features of a batch's images.

    The features are the pooled ones, or any layer's, flattened. The weights are those of the paper for classification.
    """

    method: Literal["relational_kd"]
    """how the stage trains"""
    distance_weight: Annotated[Real, Field(ge=0)] = 25.0
    """weight of the distance loss, eq. 6"""
    angle_weight: Annotated[Real, Field(ge=0)] = 50.0
    """weight of the angle loss, eq. 9"""
    student_layer: str | None = None
    """the student's tap with the features, such as flatten of torchvision's nets; by default pooled"""
    teacher_layer: str | None = None
    """the teacher's tap likewise"""

    def student_taps(self, student: Network) -> tuple[str, ...]:
        return (self.student_layer or "pooled", "logits")

    def teacher_taps(self, teacher: Network) -> tuple[str, ...]:
        return (self.teacher_layer or "pooled",)

    def targets(self, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Distances and angles between the teacher's embeddings of a batch."""
        (embedding,) = taps.values()
        return distances(embedding.flatten(1)), angles(embedding.flatten(1))

    def loss(
        self, taps: dict[str, Tensor], modules: dict, targets: tuple[Tensor, Tensor], labels_B: Tensor, progress: Tensor
    ) -> Tensor:
        functional = torch.nn.functional
        embedding = taps[self.student_layer or "pooled"].flatten(1)
        apart = functional.smooth_l1_loss(distances(embedding), targets[0])
        turned = functional.smooth_l1_loss(angles(embedding), targets[1])
        loss = functional.cross_entropy(taps["logits"], labels_B)
        return loss + self.distance_weight * apart + self.angle_weight * turned
