"""What every method of training is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fspkd.lazy import torch
from fspkd.networks import ResidualNetwork
from fspkd.settings import Identifier, NetReference, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


class Method(Settings):
    """How a stage trains: settings that a preset gives, and the loss that they stand for.

    A method lives in a module of its own in this folder, with a Literal of its name as `method`. Planning a workflow reads
    these modules, so they take torch from fspkd.lazy, which imports it when it is first used.
    """

    trains_classifier: ClassVar[bool] = True
    method: str
    schedule: Identifier

    def problem(self, student: ResidualNetwork, teacher: ResidualNetwork | None) -> str | None:
        """Why these networks cannot be trained this way and what to do, or None where they can."""
        return None

    def size_problem(self, student: ResidualNetwork, size: tuple[int, int]) -> str | None:
        """Why images of that height and width cannot be learnt this way and what to do, or None where they can."""
        return None

    def student_taps(self, student: ResidualNetwork) -> tuple[str, ...]:
        """What the loss reads of the student; only layers up to the last of it are trained."""
        return ("logits",)

    def modules(
        self, seed: int, stream: str, student: ResidualNetwork, teacher: ResidualNetwork | None
    ) -> dict[str, nn.Module]:
        """What the method brings itself, drawn from (seed, stream): trained along, and thrown away after the stage."""
        return {}

    def targets(self, teacher: nn.Module, images_BCHW: Tensor) -> Any:
        """What the teacher gives for a batch: the same for all students that see it. Called without gradients."""
        return None

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: Any,
        labels_B: Tensor,
        progress: Tensor,
    ) -> Tensor:
        """The loss, a mean over the batch, of the student's feature maps at its taps, in order of depth.

        `progress` runs from 0 to 1 over the stage.
        """
        raise NotImplementedError


class TaughtMethod(Method):
    """A method that learns from a frozen teacher: row/number, a net of the same preset."""

    teacher: NetReference

    @staticmethod
    def sections_problem(sections: tuple[int, ...], student: ResidualNetwork, teacher: ResidualNetwork) -> str | None:
        """Why features at the ends of those sections cannot be compared, or None where they can."""
        if len(student.sections) != len(teacher.sections):
            return "student and teacher are of different architectures. Give both the same."
        if sections[-1] > len(student.sections):
            return f"sections = {list(sections)}: the networks have {len(student.sections)}. Name those that there are."
        return None


def float32(features: Tensor) -> Tensor:
    """Features in float32, should they be of lower precision: sums of many squares need it."""
    return features.to(torch.promote_types(features.dtype, torch.float32))
