"""Hints [Romero et al., "FitNets", ICLR 2015, eq. 3]."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.networks.network import UpdateRule
from fspkd.settings import PositiveReal, Sections, suggest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fspkd.draws import Draws
    from fspkd.models.net import Net
    from fspkd.networks.network import Network


def hint_loss(hint: Tensor, guided: Tensor, reduction: str) -> Tensor:
    """Half the squared distance between two feature maps (B, C, H, W), as a mean over images.

    `reduction`: `sum`, an image's squares are summed, as in the equation; `mean`, averaged over its entries; `rows`,
    summed over the rows of its maps and averaged over channels and columns. Raises ValueError for any other, or for maps
    of different shapes.
    """
    if reduction not in ("sum", "mean", "rows"):
        raise ValueError(f"reduction = {reduction!r}: must be sum, mean or rows")
    if hint.shape != guided.shape:  # which PyTorch might broadcast
        raise ValueError(f"feature maps of different shapes: {tuple(hint.shape)} and {tuple(guided.shape)}")
    squares = torch.nn.functional.mse_loss(guided, hint, reduction="sum" if reduction == "sum" else "mean")
    match reduction:
        case "sum":
            squares = squares / len(hint)
        case "rows":
            squares = squares * hint.shape[2]
    return 0.5 * squares


class Hint(TaughtMethod):
    """Match the student's guided layers, through regressors, to the hint layers of a frozen teacher.

    Both are ends of sections, or any feature map of the teacher and one of the student that is not smaller. A regressor
    is a convolution that makes the sizes equal, followed by the teacher's non-linearity.
    """

    targets_are_of_images: ClassVar[bool] = True
    method: Literal["hint"]
    """how the stage trains"""
    sections: Sections | None = None
    """the sections, counted from 1, whose ends are hint and guided layers"""
    guided: str | None = None
    """the student's tap that is guided, such as layer6, instead of `sections`"""
    hint: str | None = None
    """the teacher's tap that is its hint, such as layer2"""
    reduction: Literal["mean", "rows", "sum"] = "sum"
    """how the squares of an image are combined: summed, as in eq. 3; averaged over its entries; or, as in the authors'
    code, summed over the rows of its maps and averaged over channels and columns"""
    regressor_init: PositiveReal | None = None
    """a regressor's weights are drawn uniformly between minus and plus this number; by default, from normal distributions,
    so that its outputs are as large as its inputs"""
    regressor_limit: PositiveReal | None = None
    """the largest L2 norm of each filter of a regressor; longer ones are scaled down to it after an update"""

    @model_validator(mode="after")
    def _one_kind(self) -> Hint:
        if (self.guided is None) != (self.hint is None) or (self.sections is None) == (self.guided is None):
            raise ValueError("needs either sections, or guided and hint. Give one of the two")
        return self

    def problem(self, student: Network, teacher: Network) -> str | None:
        if self.sections:
            return self.sections_problem(self.sections, student, teacher)
        for key, tap, network in (("guided", self.guided, student), ("hint", self.hint, teacher)):
            if tap not in network.maps:
                return f"{key} = {tap!r}: no feature map of {network.name}{suggest(tap, network.maps)}"
        return None

    def size_problem(self, student: Network, teacher: Network, size: tuple[int, int]) -> str | None:
        for guided, hint in zip(self.student_taps(student), self.teacher_taps(teacher), strict=True):
            sizes = [
                [network.size(tap, pixels) for pixels in size] for network, tap in ((student, guided), (teacher, hint))
            ]
            if any(own < wanted for own, wanted in zip(*sizes, strict=True)):
                own, wanted = (f"{width}x{height}" for height, width in sizes)
                return (
                    f"the guided layer {guided} has maps of {own} and the hint {hint} of {wanted}, and a regressor makes "
                    f"maps no larger. Guide an earlier layer, or take a later hint."
                )
        return None

    def student_taps(self, student: Network) -> tuple[str, ...]:
        return tuple(f"section{number}" for number in self.sections) if self.sections else (self.guided,)

    def teacher_taps(self, teacher: Network) -> tuple[str, ...]:
        return self.student_taps(teacher) if self.sections else (self.hint,)

    def modules(self, draws: Draws, student: Net, teacher: Net) -> dict[str, nn.Module]:
        """The regressors, by the student's tap, with / for dots, which module names cannot have."""
        regressors = {}
        taps = zip(self.student_taps(student.network), self.teacher_taps(teacher.network), strict=True)
        for guided, hint in taps:
            sizes = zip(student.map_size(guided), teacher.map_size(hint), strict=True)
            kernel = tuple(own - wanted + 1 for own, wanted in sizes)
            weights = draws.torch_generator(f"regressor {guided}")
            channels = student.network.channels(guided)
            regressor = teacher.regressor(hint, channels, kernel, self.regressor_init, weights)
            regressor[0].update_rule = UpdateRule(limit=self.regressor_limit)
            regressors[_key(guided)] = regressor
        return regressors

    def embed(self, taps: dict[str, Tensor], modules: dict[str, nn.Module]) -> dict[str, Tensor]:
        """The regressors' outputs for the guided layers, in the shapes of the hints."""
        return {tap: modules[_key(tap)](guided) for tap, guided in taps.items()}

    def targets(self, taps: dict[str, Tensor]) -> list[Tensor]:
        """The teacher's hint layers (B, C, H, W), in order of depth."""
        return list(taps.values())

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: list[Tensor],
        labels_B: Tensor,
        progress: Tensor,
    ) -> Tensor:
        pairs = zip(targets, taps.values(), strict=True)
        return sum(hint_loss(hint, guided, self.reduction) for hint, guided in pairs)


def _key(tap: str) -> str:
    return tap.replace(".", "/")
