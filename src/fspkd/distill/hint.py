"""Hints [Romero et al., "FitNets", ICLR 2015, eq. 3]."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.settings import Sections

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fspkd.draws import Draws
    from fspkd.networks.network import Network


def hint_loss(hint: Tensor, guided: Tensor, reduction: str) -> Tensor:
    """Half the squared distance of two feature maps (B, C, H, W), as a mean over images.

    `reduction`: an image's squares are summed, as the equation is written, or averaged over its entries.
    """
    squares = torch.nn.functional.mse_loss(guided, hint, reduction=reduction)
    return 0.5 * (squares / len(hint) if reduction == "sum" else squares)


class Hint(TaughtMethod):
    """The student's guided layers, through regressors, towards the hint layers of a frozen teacher: the ends of sections.

    Student and teacher have the same spatial sizes at their sections' ends, so a regressor is a 1x1 convolution
    followed by the teacher's non-linearity.
    """

    trains_classifier: ClassVar[bool] = False
    method: Literal["hint"]
    """how the stage trains"""
    sections: Sections
    """the sections, counted from 1, whose ends are hint and guided layers"""
    reduction: Literal["mean", "sum"] = "sum"
    """how the squares of an image are put together: summed, as eq. 3 is written, or averaged over its entries"""

    def problem(self, student: Network, teacher: Network) -> str | None:
        return self.sections_problem(self.sections, student, teacher)

    def student_taps(self, student: Network) -> tuple[str, ...]:
        return tuple(f"section{number}" for number in self.sections)

    def modules(self, draws: Draws, student: Network, teacher: Network) -> dict[str, nn.Module]:
        """The regressors, by tap."""
        regressors = {}
        for tap in self.student_taps(student):
            conv = torch.nn.Conv2d(student.channels(tap), teacher.channels(tap), 1)
            weights = draws.torch_generator(f"regressor {tap}")
            torch.nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=weights)
            torch.nn.init.zeros_(conv.bias)
            regressors[tap] = torch.nn.Sequential(conv, torch.nn.ReLU())
        return regressors

    def embed(self, taps: dict[str, Tensor], modules: dict[str, nn.Module]) -> dict[str, Tensor]:
        """What the regressors make of the guided layers, in the shapes of the hints."""
        return {tap: modules[tap](guided) for tap, guided in taps.items()}

    def targets(self, taps: dict[str, Tensor]) -> dict[str, Tensor]:
        """The teacher's hint layers (B, C, H, W) by tap."""
        return taps

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: dict[str, Tensor],
        labels_B: Tensor,
        progress: Tensor,
    ) -> Tensor:
        return sum(hint_loss(targets[tap], guided, self.reduction) for tap, guided in taps.items())
