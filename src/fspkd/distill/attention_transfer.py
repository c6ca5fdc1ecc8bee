"""Attention transfer [Zagoruyko and Komodakis, ICLR 2017, eq. 2, activation-based]."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.settings import PositiveReal, Sections

if TYPE_CHECKING:
    from torch import Tensor

    from fspkd.networks.network import Network


def attention_map(features_BCHW: Tensor) -> Tensor:
    """A layer's attention map: the mean of its squared channels, as a unit vector for each image, (B, H W)."""
    return torch.nn.functional.normalize(features_BCHW.square().mean(1).flatten(1))


class AttentionTransfer(TaughtMethod):
    """Cross-entropy, and the squared distances between attention maps at the ends of sections, averaged over a map."""

    targets_are_of_images: ClassVar[bool] = True
    method: Literal["attention_transfer"]
    """how the stage trains"""
    sections: Sections = (1, 2, 3)
    """the sections, counted from 1, at whose ends maps are compared"""
    weight: PositiveReal = 1000.0
    """weight of each distance: 1000 as in the authors' code, which averages over a map; eq. 2 has beta / 2 and no average"""

    def problem(self, student: Network, teacher: Network) -> str | None:
        return self.sections_problem(self.sections, student, teacher)

    def size_problem(self, student: Network, teacher: Network, size: tuple[int, int]) -> str | None:
        for tap in self.teacher_taps(teacher):
            ours, theirs = (tuple(network.size(tap, pixels) for pixels in size) for network in (student, teacher))
            if ours != theirs:
                return (
                    f"the maps at {tap} are of {ours[1]}x{ours[0]} pixels in the student and {theirs[1]}x{theirs[0]} in the "
                    f"teacher, and only maps of one size can be compared. Give another network, or other sections."
                )
        return None

    def student_taps(self, student: Network) -> tuple[str, ...]:
        return (*(f"section{number}" for number in self.sections), "logits")

    def teacher_taps(self, teacher: Network) -> tuple[str, ...]:
        return self.student_taps(teacher)[:-1]

    def targets(self, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The teacher's attention maps by tap."""
        return {tap: attention_map(features) for tap, features in taps.items()}

    def loss(
        self, taps: dict[str, Tensor], modules: dict, targets: dict[str, Tensor], labels_B: Tensor, progress: Tensor
    ) -> Tensor:
        functional = torch.nn.functional
        distances = [functional.mse_loss(attention_map(taps[tap]), targets[tap]) for tap in targets]
        return functional.cross_entropy(taps["logits"], labels_B) + self.weight * sum(distances)
