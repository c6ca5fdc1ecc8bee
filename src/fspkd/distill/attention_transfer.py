"""Attention transfer [Zagoruyko and Komodakis, ICLR 2017, eq. 2, activation-based]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fspkd.distill.method import TaughtMethod, float32
from fspkd.lazy import torch
from fspkd.settings import PositiveReal, Sections

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fspkd.networks import ResidualNetwork


def attention_map(features_BCHW: Tensor) -> Tensor:
    """Where a layer looks: the mean of the squared channels, as a vector of length 1 for each image, (B, H W)."""
    return torch.nn.functional.normalize(float32(features_BCHW).square().mean(1).flatten(1))


class AttentionTransfer(TaughtMethod):
    """Cross-entropy, and the squared distances of the attention maps at the ends of sections, averaged over a map.

    `weight` is beta of eq. 2, which halves it; the average over a map, and 1000, are those of the authors' code.
    """

    method: Literal["attention_transfer"]
    sections: Sections = (1, 2, 3)
    weight: PositiveReal = 1000.0

    def problem(self, student: ResidualNetwork, teacher: ResidualNetwork) -> str | None:
        return self.sections_problem(self.sections, student, teacher)

    def student_taps(self, student: ResidualNetwork) -> tuple[str, ...]:
        return (*(f"section{number}" for number in self.sections), "logits")

    def targets(self, teacher: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """The teacher's attention maps by tap."""
        taps = teacher.taps(x, self.student_taps(teacher.network)[:-1])
        return {tap: attention_map(features) for tap, features in taps.items()}

    def loss(
        self, taps: dict[str, Tensor], modules: dict, targets: dict[str, Tensor], y: Tensor, progress: Tensor
    ) -> Tensor:
        functional = torch.nn.functional
        distances = [functional.mse_loss(attention_map(taps[tap]), targets[tap]) for tap in targets]
        return functional.cross_entropy(float32(taps["logits"]), y) + self.weight / 2 * sum(distances)
