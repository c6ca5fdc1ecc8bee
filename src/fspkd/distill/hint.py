"""Hints [Romero et al., "FitNets", ICLR 2015, eq. 3]."""

from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.config import Hint, Network
from fspkd.distill.objective import Objective, float32
from fspkd.models import CifarResNet
from fspkd.streams import torch_generator


def hint_loss(hint: Tensor, guided: Tensor, reduction: str) -> Tensor:
    """Half the squared distance of two feature maps (B, C, H, W), as a mean over images.

    `reduction`: an image's squares are summed, as the equation is written, or averaged over its entries.
    """
    squares = F.mse_loss(float32(guided), float32(hint), reduction=reduction)
    return 0.5 * (squares / len(hint) if reduction == "sum" else squares)


class HintObjective(Objective):
    """The student's guided layers, through regressors, towards the hint layers of a frozen teacher.

    Student and teacher have the same spatial sizes at their sections' ends, so a regressor is a 1x1 convolution
    followed by the teacher's non-linearity.
    """

    def __init__(self, settings: Hint, seed: int, stream: str, student: Network, teacher: Network) -> None:
        super().__init__()
        self.settings = settings
        self.student_taps = tuple(f"section{i}" for i in settings.sections)
        self.regressors = nn.ModuleDict()
        for tap in self.student_taps:
            conv = nn.Conv2d(CifarResNet.channels(student, tap), CifarResNet.channels(teacher, tap), 1)
            weights = torch_generator(seed, stream, f"regressor {tap}")
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=weights)
            nn.init.zeros_(conv.bias)
            self.regressors[tap] = nn.Sequential(conv, nn.ReLU())

    def targets(self, teacher: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """The teacher's hint layers (B, C, H, W) by tap."""
        return teacher.taps(x, self.student_taps)

    def forward(self, student: nn.Module, targets: dict[str, Tensor], x: Tensor, y: Tensor, progress: Tensor) -> Tensor:
        guided = student.taps(x, self.student_taps)
        return sum(
            hint_loss(targets[tap], self.regressors[tap](guided[tap]), self.settings.reduction)
            for tap in self.student_taps
        )
