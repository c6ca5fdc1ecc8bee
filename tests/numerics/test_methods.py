"""Methods from elsewhere against slow references."""

import math

import pytest
import torch

from fspkd.distill.attention_transfer import AttentionTransfer, attention_map
from fspkd.distill.relational_kd import RelationalKd, angles, distances
from fspkd.engine.objective import Objective
from fspkd.models.cifar import CifarResNet
from fspkd.networks import CifarNetwork

NETWORK = CifarNetwork(depth=8, width=4)


def net(seed: int) -> CifarResNet:
    return CifarResNet(NETWORK, 3, 10, torch.Generator().manual_seed(seed)).eval()


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
    assert found[0, 1, 2] == pytest.approx(0, abs=1e-6)  # the right angle at the first
    assert found[1, 0, 2] == pytest.approx(3 / 5)
    assert found[2, 0, 1] == pytest.approx(4 / 5)


@pytest.mark.parametrize("method", ["attention_transfer", "relational_kd"])
def test_a_student_equal_to_its_teacher_has_the_cross_entropy_alone(method: str) -> None:
    kind = {"attention_transfer": AttentionTransfer, "relational_kd": RelationalKd}[method]
    objective = Objective(kind(method=method, schedule="s", teacher="teacher/1"), 1, "s", NETWORK, NETWORK)
    x, y = torch.rand(4, 3, 16, 16), torch.arange(4)
    student, teacher = net(1), net(1)
    with torch.no_grad():
        targets = objective.targets(teacher, x)

    def loss_of(student: CifarResNet) -> torch.Tensor:
        return objective(student.taps(x, objective.student_taps), targets, y, torch.zeros(()))

    loss = loss_of(student)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(student(x), y))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in student.parameters())
    assert loss_of(net(2)) > torch.nn.functional.cross_entropy(net(2)(x), y)


@pytest.mark.parametrize("method", ["attention_transfer", "relational_kd"])
def test_targets_are_float32_where_the_net_is_not(method: str) -> None:
    kind = {"attention_transfer": AttentionTransfer, "relational_kd": RelationalKd}[method]
    method = kind(method=method, schedule="s", teacher="teacher/1")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        targets = method.targets(net(1), torch.rand(4, 3, 16, 16))
    tensors = targets.values() if isinstance(targets, dict) else targets
    assert all(tensor.dtype == torch.float32 for tensor in tensors)


def test_relations_do_not_change_when_the_embedding_is_turned_or_scaled() -> None:
    points = torch.randn(6, 5)
    turn = torch.linalg.qr(torch.randn(5, 5))[0]
    torch.testing.assert_close(distances(3 * points @ turn), distances(points), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(angles(3 * points @ turn + 1), angles(points), rtol=1e-4, atol=1e-4)
