"""Knowledge distillation and hints against their closed forms."""

import math
from contextlib import nullcontext
from itertools import product

import pytest
import torch

from fspkd.distill.hint import Hint, hint_loss
from fspkd.distill.kd import KnowledgeDistillation, kd_loss
from fspkd.draws import Draws
from fspkd.engine.objective import Objective
from fspkd.models import build
from fspkd.models.cifar_resnet import CifarResNet
from fspkd.networks.maxout import MaxoutNetwork
from fspkd.networks.network import UpdateRule
from fspkd.networks.residual import CifarNetwork

NETWORK = CifarNetwork(depth=8, width=4)
NET = CifarResNet(NETWORK, (3, 16, 16), 10, torch.Generator().manual_seed(1)).eval()


def kd_by_hand(
    student: list, teacher: list, label: int, temperature: float, weight: float, students_temperature: float
) -> float:
    def softmax(values: list, t: float) -> list:
        parts = [math.exp(v / t) for v in values]
        return [p / sum(parts) for p in parts]

    hard = -math.log(softmax(student, 1.0)[label])
    pairs = zip(softmax(teacher, temperature), softmax(student, students_temperature), strict=True)
    return hard + weight * -sum(p * math.log(q) for p, q in pairs)


@pytest.mark.parametrize("temperature", [3.0, 2.0])
@pytest.mark.parametrize("soften_student", [None, False])
def test_kd_loss_equals_its_closed_form(soften_student: bool | None, temperature: float) -> None:
    """The authors' code divides only the teacher's logits by tau."""
    students, teachers, labels = [[1.0, -2.0, 0.5], [0.1, 0.2, 3.0]], [[2.0, 0.0, -1.0], [-0.3, 1.0, 0.4]], [0, 1]
    own = 1.0 if soften_student is False else temperature
    images = zip(students, teachers, labels, strict=True)
    expected = sum(kd_by_hand(s, t, y, temperature, 2.25, own) for s, t, y in images) / 2
    settings = KnowledgeDistillation(
        method="kd",
        schedule="third",
        teacher="teacher/1",
        temperature=temperature,
        weight_start=3.0,
        weight_end=0.0,
        soften_student=soften_student,
    )
    targets = settings.targets({"logits": torch.tensor(teachers)})
    loss = settings.loss({"logits": torch.tensor(students)}, {}, targets, torch.tensor(labels), torch.tensor(0.25))
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
    hint, guided = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5, requires_grad=True)

    def check(reduction: str, expected: torch.Tensor) -> None:
        settings = Hint(method="hint", schedule="hint", teacher="teacher/1", sections=(2,), reduction=reduction)
        targets = settings.targets({"section2": hint})
        loss = settings.loss({"section2": guided}, {}, targets, torch.zeros(2), torch.zeros(()))
        torch.testing.assert_close(loss, expected)
        (gradient,), (by_hand,) = (torch.autograd.grad(value, guided, retain_graph=True) for value in (loss, expected))
        torch.testing.assert_close(gradient, by_hand)

    total = sum(0.5 * ((hint[i] - guided[i]) ** 2).sum() for i in range(2)) / 2
    check("sum", total)
    check("mean", total / 60)
    # The authors' code sums over the rows of maps and averages over channels, columns and images.
    entries = product(range(2), range(3), range(5))
    columns = [0.5 * sum((hint[i, c, y, x] - guided[i, c, y, x]) ** 2 for y in range(4)) for i, c, x in entries]
    check("rows", sum(columns) / len(columns))


def test_hints_for_other_images_and_unknown_reductions_are_refused() -> None:
    maps = torch.ones(3, 2, 4, 4)
    with pytest.raises(ValueError, match=r"maps of different shapes: \(1, 2, 4, 4\) and \(3, 2, 4, 4\)"):
        hint_loss(maps[:1], maps, "sum")
    with pytest.raises(ValueError, match=r"reduction = 'row': must be sum, mean or rows"):
        hint_loss(maps, maps, "row")


def test_regressor_reads_the_guided_layer_and_answers_for_the_hint() -> None:
    """With the identity as regressor a student equal to its teacher has no loss, since the hints are rectified."""
    settings = Hint(method="hint", schedule="hint", teacher="teacher/1", sections=(1, 2))
    objective = Objective(settings, Draws(1, "s"), NET, NET)
    for conv, _ in objective.own.values():
        torch.nn.init.dirac_(conv.weight)
    x = torch.rand(2, 3, 16, 16)
    targets = objective.targets(NET, x, nullcontext())
    assert objective(objective.embedded(NET.taps, x, nullcontext()), targets, torch.zeros(2), torch.zeros(())) < 1e-9
    assert objective.own["section2"][0].weight.shape == (8, 8, 1, 1)


@pytest.mark.parametrize("init", [None, 0.05])
def test_regressor_between_layers_of_different_sizes(init: float | None) -> None:
    """From 16 channels of 8x12 to 24 of 3x5, each the maximum of 3 pieces, as the teacher's are."""
    layers = {
        "student": [{"conv": 4, "kernel": 3, "pad": 1}, {"conv": 16, "kernel": 3, "pad": 1, "pool": 2}],
        "teacher": [{"conv": 24, "kernel": 5, "pieces": 3, "pool": 4}, {"full": 8}],
    }
    student, teacher = (
        build(
            MaxoutNetwork.model_validate({"architecture": "maxout", "layers": layers[who]}),
            (3, 16, 24),
            10,
            torch.Generator().manual_seed(0),
        )
        for who in ("student", "teacher")
    )
    settings = Hint(
        method="hint",
        schedule="hint",
        teacher="teacher/1",
        guided="layer2",
        hint="layer1",
        regressor_init=init,
        regressor_limit=0.9,
    )
    (regressor,) = settings.modules(Draws(1, "s"), student, teacher).values()
    conv = regressor[0]
    assert conv.weight.shape == (24 * 3, 16, 8 - 3 + 1, 12 - 5 + 1)
    assert conv.update_rule == UpdateRule(rate=1.0, limit=0.9)
    assert not conv.bias.any()
    x = torch.randn(40, 16, 8, 12, generator=torch.Generator().manual_seed(1))
    y = regressor(x)
    assert y.shape[1:] == teacher.taps(torch.rand(1, 3, 16, 24), ("layer1",))["layer1"].shape[1:] == (24, 3, 5)
    if init:
        assert conv.weight.abs().max().item() == pytest.approx(0.05, rel=0.01)
        assert conv.weight.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.02)
    else:
        assert y.square().mean().item() == pytest.approx(1, rel=0.05)
    for seed, same in ((1, True), (2, False)):
        (other,) = settings.modules(Draws(seed, "s"), student, teacher).values()
        assert torch.equal(other[0].weight, conv.weight) is same
