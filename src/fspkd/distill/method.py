"""The base classes of training methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fspkd.settings import Identifier, NetReference, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fspkd.draws import Draws
    from fspkd.models.net import Net
    from fspkd.networks.network import Network


class Method(Settings):
    """How a stage trains: settings that a preset gives, and the loss that they define.

    Each method is in its own module in this folder, with a Literal of its name as `method`. Planning a workflow imports
    these modules, so they take torch from fspkd.lazy, which imports it on first use. Whatever precision nets are computed
    in, `targets` and `loss` are given float32 and compute in it.
    """

    targets_are_of_images: ClassVar[bool] = False
    """whether an image's targets are the same in any batch, so that they can be computed once and kept"""
    method: str
    """how the stage trains"""
    schedule: Identifier
    """the entry of `schedules` that the stage follows"""

    def problem(self, student: Network, teacher: Network | None) -> str | None:
        """Why these networks cannot be trained this way and what to do, or None if they can."""
        return None

    def size_problem(self, student: Network, teacher: Network | None, size: tuple[int, int]) -> str | None:
        """Why images of that height and width cannot be learnt this way and what to do, or None if they can."""
        return None

    def student_taps(self, student: Network) -> tuple[str, ...]:
        """The student's taps for the loss; only layers up to the last of them are trained, in a last stage all."""
        return ("logits",)

    def teacher_taps(self, teacher: Network) -> tuple[str, ...]:
        """The teacher's taps for the targets."""
        return ()

    def modules(self, draws: Draws, student: Net, teacher: Net | None) -> dict[str, nn.Module]:
        """The method's own modules: initialised from the run's draws, trained with the student, dropped after the stage."""
        return {}

    def embed(self, taps: dict[str, Tensor], modules: dict[str, nn.Module]) -> dict[str, Tensor]:
        """The outputs of the method's own modules for the student's feature maps, in the nets' precision."""
        return taps

    def targets(self, taps: dict[str, Tensor]) -> Any:
        """The targets for a batch, from the teacher's feature maps: the same for all students. Without gradients."""
        return None

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: Any,
        labels_B: Tensor,
        progress: Tensor,
    ) -> Tensor:
        """The loss, a mean over the batch, of what `embed` returned, in order of depth.

        `progress` runs from 0 to 1 over the stage.
        """
        raise NotImplementedError


class TaughtMethod(Method):
    """A method that learns from a frozen teacher."""

    teacher: NetReference
    """a net of the same preset, as row/number; a row, whose net of the same number is the teacher of each net; or an entry of
    `pretrained`"""

    def teacher_taps(self, teacher: Network) -> tuple[str, ...]:
        return self.student_taps(teacher)

    @staticmethod
    def sections_problem(sections: tuple[int, ...], student: Network, teacher: Network) -> str | None:
        """Why features at the ends of those sections cannot be compared, or None if they can."""
        for network in (student, teacher):
            if not network.sections:
                return (
                    f"compares the ends of sections, and {network.name} has none. Give an imagenet_resnet or cifar_resnet, or "
                    f"another method."
                )
        if len(student.sections) != len(teacher.sections):
            counts = f"{student.name} has {len(student.sections)} sections, and {teacher.name} {len(teacher.sections)}"
            return f"compares the ends of sections, but {counts}. Give nets with as many, or another method."
        if sections[-1] > len(student.sections):
            return f"sections = {list(sections)}: the networks have {len(student.sections)}. Name those that there are."
        return None
