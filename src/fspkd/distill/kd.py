"""Knowledge distillation as FitNets use it [Romero et al., ICLR 2015, eq. 2]."""

from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.config import KnowledgeDistillation, Network
from fspkd.distill.objective import Objective, float32


def kd_loss(
    student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, temperature: float, weight: float | Tensor
) -> Tensor:
    """H(y, P_S) + weight * H(P_T^tau, P_S^tau): cross-entropies of logits, without a factor tau^2; mean over images."""
    student_BK, teacher_BK = float32(student_BK), float32(teacher_BK)
    soft_targets = F.softmax(teacher_BK / temperature, 1)
    return F.cross_entropy(student_BK, labels_B) + weight * F.cross_entropy(student_BK / temperature, soft_targets)


class KnowledgeDistillationObjective(Objective):
    """kd_loss with a weight that falls linearly over the stage."""

    def __init__(
        self, settings: KnowledgeDistillation, seed: int, stream: str, student: Network, teacher: Network
    ) -> None:
        super().__init__()
        self.settings = settings

    def targets(self, teacher: nn.Module, x: Tensor) -> Tensor:
        """The teacher's logits (B, K)."""
        return teacher(x)

    def forward(self, student: nn.Module, targets: Tensor, x: Tensor, y: Tensor, progress: Tensor) -> Tensor:
        s = self.settings
        weight = s.weight_start + (s.weight_end - s.weight_start) * progress
        return kd_loss(student(x), targets, y, s.temperature, weight)
