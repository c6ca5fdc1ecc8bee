"""Hints [Romero et al., "FitNets", ICLR 2015, eq. 3]."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fspkd.distill.method import TaughtMethod, float32
from fspkd.draws import torch_generator
from fspkd.lazy import torch
from fspkd.settings import Sections

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fspkd.networks import ResidualNetwork


def hint_loss(hint: Tensor, guided: Tensor, reduction: str) -> Tensor:
    """Half the squared distance of two feature maps (B, C, H, W), as a mean over images.

    `reduction`: an image's squares are summed, as the equation is written, or averaged over its entries.
    """
    squares = torch.nn.functional.mse_loss(float32(guided), float32(hint), reduction=reduction)
    return 0.5 * (squares / len(hint) if reduction == "sum" else squares)


class Hint(TaughtMethod):
    """The student's guided layers, through regressors, towards the hint layers of a frozen teacher: the ends of sections.

    Student and teacher have the same spatial sizes at their sections' ends, so a regressor is a 1x1 convolution
    followed by the teacher's non-linearity.
    """

    trains_classifier: ClassVar[bool] = False
    method: Literal["hint"]
    sections: Sections
    reduction: Literal["mean", "sum"] = "sum"

    def problem(self, student: ResidualNetwork, teacher: ResidualNetwork) -> str | None:
        return self.sections_problem(self.sections, student, teacher)

    def student_taps(self, student: ResidualNetwork) -> tuple[str, ...]:
        return tuple(f"section{number}" for number in self.sections)

    def modules(
        self, seed: int, stream: str, student: ResidualNetwork, teacher: ResidualNetwork
    ) -> dict[str, nn.Module]:
        """The regressors, by tap."""
        regressors = {}
        for tap in self.student_taps(student):
            conv = torch.nn.Conv2d(student.channels(tap), teacher.channels(tap), 1)
            weights = torch_generator(seed, stream, f"regressor {tap}")
            torch.nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=weights)
            torch.nn.init.zeros_(conv.bias)
            regressors[tap] = torch.nn.Sequential(conv, torch.nn.ReLU())
        return regressors

    def targets(self, teacher: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """The teacher's hint layers (B, C, H, W) by tap."""
        return teacher.taps(x, self.student_taps(teacher.network))

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: dict[str, Tensor],
        y: Tensor,
        progress: Tensor,
    ) -> Tensor:
        return sum(hint_loss(targets[tap], modules[tap](guided), self.reduction) for tap, guided in taps.items())
