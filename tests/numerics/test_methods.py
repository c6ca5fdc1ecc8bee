"""Methods from other papers against slow references."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from fspkd.distill.attention_transfer import AttentionTransfer, attention_map
from fspkd.distill.fsp import Fsp
from fspkd.distill.hint import Hint
from fspkd.distill.kd import KnowledgeDistillation
from fspkd.distill.method import Method
from fspkd.distill.relational_kd import RelationalKd, angles, distances
from fspkd.draws import Draws
from fspkd.engine.objective import Objective
from fspkd.models.cifar_resnet import CifarResNet
from fspkd.networks.residual import CifarNetwork, ImageNetNetwork, ResidualNetwork

NETWORK = CifarNetwork(depth=8, width=4)


def net(seed: int) -> CifarResNet:
    return CifarResNet(NETWORK, (3, 32, 32), 10, torch.Generator().manual_seed(seed)).eval()


class Small(ResidualNetwork):
    """Four sections after a stem of stride 1, the first of them of any width."""

    architecture: str = "small"
    modules: tuple[int, ...] = (2, 2, 2, 2)
    widening: int = 1

    def channels(self, tap: str) -> int:
        return super().channels(tap) * (1 if tap == "stem" else self.widening)


def test_pairs_of_networks_whose_maps_do_not_fit_are_refused_before_anything_is_trained() -> None:
    small, wide = Small(width=4), Small(width=4, widening=2)
    imagenet = ImageNetNetwork(width=4, modules=(2, 2, 2, 2))
    fsp = Fsp(method="fsp", schedule="s", teacher="teacher/1")
    assert fsp.problem(small, imagenet) is None
    assert "with 4, 8, 16, 32, 64 channels with a net that has 4, 4, 8, 16, 32 there" in fsp.problem(small, wide)
    assert fsp.size_problem(small, small, (24, 24)) is None
    assert fsp.size_problem(small, imagenet, (32, 32)) is None
    assert "maps of 3 and 2 pixels do not pool to one size" in fsp.size_problem(small, imagenet, (24, 24))
    attention = AttentionTransfer(method="attention_transfer", schedule="s", teacher="teacher/1", sections=(4,))
    assert attention.size_problem(small, wide, (32, 32)) is None
    told = attention.size_problem(small, imagenet, (32, 48))
    assert "at section4 are of 6x4 pixels in the student and 2x1 in the teacher" in told


def test_attention_map_is_the_normalised_mean_of_squares() -> None:
    features = torch.randn(2, 3, 4, 5)
    for image, found in zip(features, attention_map(features), strict=True):
        squares = [sum(float(image[c, i, j]) ** 2 for c in range(3)) / 3 for i in range(4) for j in range(5)]
        length = math.sqrt(sum(s**2 for s in squares))
        torch.testing.assert_close(found, torch.tensor([s / length for s in squares]))


def test_distances_and_angles_of_points_in_a_plane() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    mean = (3 + 4 + 5) / 3
    expected = torch.tensor([[0, 3, 4], [3, 0, 5], [4, 5, 0]]) / mean
    torch.testing.assert_close(distances(points), expected)
    found = angles(points)
    assert found[0, 1, 2] == pytest.approx(0, abs=1e-6)  # the right angle, at the first point
    assert found[1, 0, 2] == pytest.approx(3 / 5)
    assert found[2, 0, 1] == pytest.approx(4 / 5)


@pytest.mark.parametrize(
    "method",
    [
        AttentionTransfer(method="attention_transfer", schedule="s", teacher="teacher/1"),
        RelationalKd(method="relational_kd", schedule="s", teacher="teacher/1"),
        RelationalKd(
            method="relational_kd", schedule="s", teacher="teacher/1", student_layer="stem", teacher_layer="stem"
        ),
    ],
)
def test_a_student_equal_to_its_teacher_has_the_cross_entropy_alone(method: Method) -> None:
    objective = Objective(method, Draws(1, "s"), net(0), net(0))
    x, y = torch.rand(4, 3, 16, 16), torch.arange(4)
    student, teacher = net(1), net(1)
    targets = objective.targets(teacher, x, nullcontext())

    def loss_of(student: CifarResNet) -> torch.Tensor:
        return objective(objective.embedded(student.taps, x, nullcontext()), targets, y, torch.zeros(()))

    loss = loss_of(student)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(student(x), y))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in student.parameters())
    assert loss_of(net(2)) > torch.nn.functional.cross_entropy(net(2)(x), y)


def test_attention_transfer_weighs_as_the_authors_code() -> None:
    """beta times the sum over sections of the mean squared difference of two maps of norm 1."""
    method = AttentionTransfer(
        method="attention_transfer", schedule="s", teacher="teacher/1", sections=(1, 2), weight=7
    )
    student, teacher = ({f"section{i}": torch.randn(3, 4, 2, 5) for i in (1, 2)} for _ in range(2))
    logits, y = torch.randn(3, 10), torch.tensor([1, 2, 3])
    expected = torch.nn.functional.cross_entropy(logits, y)
    for section in ("section1", "section2"):
        ours, theirs = (taps[section].pow(2).mean(1).flatten(1) for taps in (student, teacher))
        difference = ours / ours.norm(dim=1, keepdim=True) - theirs / theirs.norm(dim=1, keepdim=True)
        expected = expected + 7 * difference.pow(2).mean()
    loss = method.loss({**student, "logits": logits}, {}, method.targets(teacher), y, torch.zeros(()))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("settings", [AttentionTransfer, RelationalKd, KnowledgeDistillation, Fsp, Hint])
def test_targets_of_images_are_those_in_any_batch(settings: type) -> None:
    """Only where a method says so may a table keep them."""
    own = {"sections": (1, 2)} if settings is Hint else {}
    name = settings.model_fields["method"].annotation.__args__[0]
    objective = Objective(settings(method=name, schedule="s", teacher="t/1", **own), Draws(1, "s"), net(0), net(0))
    x = torch.rand(4, 3, 16, 16)
    whole, others = (
        objective.targets(net(1), batch, nullcontext()) for batch in (x, torch.cat([x[:2], x[:2].flip(3)]))
    )

    def tensors(targets: object) -> list[torch.Tensor]:
        return [targets] if isinstance(targets, torch.Tensor) else list(getattr(targets, "values", targets.__iter__)())

    pairs = zip(tensors(whole), tensors(others), strict=True)
    same = all(torch.allclose(a[:2], b[:2], atol=1e-5) for a, b in pairs)
    assert same is settings.targets_are_of_images


@pytest.mark.parametrize("settings", [AttentionTransfer, RelationalKd, KnowledgeDistillation, Fsp, Hint])
def test_methods_are_given_float32_where_nets_are_not(settings: type, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    for name in ("targets", "loss"):
        original = getattr(settings, name)

        def noted(self: Method, taps: dict, *others: object, original: Callable = original) -> object:
            given.extend(
                [*taps.values(), torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else taps]
            )
            return original(self, taps, *others)

        monkeypatch.setattr(settings, name, noted)
    own = {"sections": (1, 2)} if settings is Hint else {}
    name = settings.model_fields["method"].annotation.__args__[0]
    method = settings(method=name, schedule="s", teacher="teacher/1", **own)
    objective = Objective(method, Draws(1, "s"), net(0), net(0))
    x, low = torch.rand(4, 3, 16, 16), torch.autocast("cpu", torch.bfloat16)
    targets = objective.targets(net(1), x, low)
    assert (
        objective(objective.embedded(net(2).taps, x, low), targets, torch.arange(4), torch.zeros(())).dtype
        == torch.float32
    )
    tensors = [value for value in given if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(tensor.dtype == torch.float32 for tensor in tensors)
    assert torch.bfloat16 not in [value for value in given if isinstance(value, torch.dtype)]


def test_relations_do_not_change_when_the_embedding_is_turned_or_scaled() -> None:
    points = torch.randn(6, 5)
    turn = torch.linalg.qr(torch.randn(5, 5))[0]
    torch.testing.assert_close(distances(3 * points @ turn), distances(points), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(angles(3 * points @ turn + 1), angles(points), rtol=1e-4, atol=1e-4)
