"""Training on the labels, and knowledge distillation as FitNets use it [Romero et al., ICLR 2015, eq. 2]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.config import KnowledgeDistillation, Network, Settings


def kd_loss(student_BK: Tensor, teacher_BK: Tensor, labels_B: Tensor, temperature: float, weight: float) -> Tensor:
    """H(y, P_S) + weight * H(P_T^tau, P_S^tau): cross-entropies of logits, without a factor tau^2; mean over images."""
    soft_targets = F.softmax(teacher_BK / temperature, 1)
    return F.cross_entropy(student_BK, labels_B) + weight * F.cross_entropy(student_BK / temperature, soft_targets)


class CrossEntropyObjective(nn.Module):
    """Cross-entropy with the labels."""

    student_taps = ()

    def __init__(self, settings: Settings, seed: int, stream: str, student: Network, teacher: None) -> None:
        super().__init__()

    def forward(self, student: nn.Module, teacher: None, x: Tensor, y: Tensor, progress: float) -> Tensor:
        return F.cross_entropy(student(x), y)


class KnowledgeDistillationObjective(nn.Module):
    """kd_loss with a weight that falls linearly over the stage: `progress` runs from 0 to 1."""

    student_taps = ()

    def __init__(
        self, settings: KnowledgeDistillation, seed: int, stream: str, student: Network, teacher: Network
    ) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, student: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, progress: float) -> Tensor:
        s = self.settings
        weight = s.weight_start + (s.weight_end - s.weight_start) * progress
        with torch.no_grad():
            soft = teacher(x)
        return kd_loss(student(x), soft, y, s.temperature, weight)
