"""Knowledge distillation and hints against their closed forms."""

import math
from contextlib import nullcontext

import pytest
import torch

from fspkd.distill.hint import Hint, hint_loss
from fspkd.distill.kd import KnowledgeDistillation, kd_loss
from fspkd.draws import Draws
from fspkd.engine.objective import Objective
from fspkd.models.cifar_resnet import CifarResNet
from fspkd.networks.residual import CifarNetwork

NETWORK = CifarNetwork(depth=8, width=4)
NET = CifarResNet(NETWORK, (3, 16, 16), 10, torch.Generator().manual_seed(1)).eval()


def kd_by_hand(student: list, teacher: list, label: int, temperature: float, weight: float) -> float:
    def softmax(values: list, t: float) -> list:
        parts = [math.exp(v / t) for v in values]
        return [p / sum(parts) for p in parts]

    hard = -math.log(softmax(student, 1.0)[label])
    pairs = zip(softmax(teacher, temperature), softmax(student, temperature), strict=True)
    return hard + weight * -sum(p * math.log(q) for p, q in pairs)


def test_kd_loss_equals_its_closed_form() -> None:
    students, teachers, labels = [[1.0, -2.0, 0.5], [0.1, 0.2, 3.0]], [[2.0, 0.0, -1.0], [-0.3, 1.0, 0.4]], [0, 1]
    expected = sum(kd_by_hand(s, t, y, 3.0, 2.5) for s, t, y in zip(students, teachers, labels, strict=True)) / 2
    loss = kd_loss(torch.tensor(students), torch.tensor(teachers), torch.tensor(labels), 3.0, 2.5)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 4.0), (0.5, 2.5), (1.0, 1.0)])
def test_kd_weight_falls_linearly(progress: float, weight: float) -> None:
    settings = KnowledgeDistillation(method="kd", schedule="third", teacher="teacher/1")
    objective = Objective(settings, Draws(1, "s"), NET, NET)
    student, teacher, labels = torch.randn(5, 10), torch.randn(5, 10), torch.arange(5)
    targets = settings.targets({"logits": teacher})
    loss = objective({"logits": student}, targets, labels, torch.tensor(progress))
    torch.testing.assert_close(loss, kd_loss(student, teacher, labels, 3.0, weight))


def test_hint_loss_is_half_the_squared_distance_averaged_over_images() -> None:
    hint, guided = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    expected = sum(0.5 * ((hint[i] - guided[i]) ** 2).sum() for i in range(2)) / 2
    torch.testing.assert_close(hint_loss(hint, guided, "sum"), expected)
    torch.testing.assert_close(hint_loss(hint, guided, "mean"), expected / 60)


def test_regressor_reads_the_guided_layer_and_answers_for_the_hint() -> None:
    """With the identity as regressor a student equal to its teacher has no loss, since the hints are rectified."""
    settings = Hint(method="hint", schedule="hint", teacher="teacher/1", sections=(1, 2))
    objective = Objective(settings, Draws(1, "s"), NET, NET)
    for conv, _ in objective.own.values():
        torch.nn.init.dirac_(conv.weight)
    x = torch.rand(2, 3, 16, 16)
    targets = objective.targets(NET, x, nullcontext())
    assert objective(objective.embedded(NET, x, nullcontext()), targets, torch.zeros(2), torch.zeros(())) < 1e-9
    assert objective.own["section2"][0].weight.shape == (8, 8, 1, 1)
