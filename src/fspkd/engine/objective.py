"""A method at work on a net."""

from typing import Any

from torch import Tensor, nn

from fspkd.distill.method import Method
from fspkd.networks import ResidualNetwork


class Objective(nn.Module):
    """The loss of a method, with what the method brings: parameters that are trained along with the student."""

    def __init__(
        self, method: Method, seed: int, stream: str, student: ResidualNetwork, teacher: ResidualNetwork | None
    ) -> None:
        super().__init__()
        self.method = method
        self.student_taps = method.student_taps(student)
        self.own = nn.ModuleDict(method.modules(seed, stream, student, teacher))

    def targets(self, teacher: nn.Module | None, images_BCHW: Tensor) -> Any:
        """What the teacher gives for a batch."""
        return self.method.targets(teacher, images_BCHW)

    def forward(self, taps: dict[str, Tensor], targets: Any, labels_B: Tensor, progress: Tensor) -> Tensor:
        """The loss, a mean over the batch, from the student's feature maps at `student_taps`."""
        return self.method.loss(taps, self.own, targets, labels_B, progress)
