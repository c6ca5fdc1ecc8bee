"""FSP matrices and their loss against slow references and invariances."""

from contextlib import nullcontext

import pytest
import torch

from fspkd.distill.fsp import Fsp, fsp_loss, fsp_matrix
from fspkd.draws import Draws
from fspkd.engine.objective import Objective
from fspkd.models.cifar_resnet import CifarResNet
from fspkd.networks.residual import CifarNetwork

NETWORK = CifarNetwork(depth=14, width=4)


def four_loops(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Eq. (1) as written, for maps of equal size."""
    images, m, height, width = first.shape
    n = second.shape[1]
    result = torch.zeros(images, m, n, dtype=first.dtype)
    for i in range(m):
        for j in range(n):
            for s in range(height):
                for t in range(width):
                    result[:, i, j] += first[:, i, s, t] * second[:, j, s, t] / (height * width)
    return result


def loss_of(objective: Objective, student: torch.nn.Module, teacher: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    targets = objective.targets(teacher, x, nullcontext())
    embedded = objective.embedded(student.taps, x, nullcontext())
    return objective(embedded, targets, torch.zeros(len(x)), torch.zeros(()))


def net(seed: int) -> CifarResNet:
    return CifarResNet(NETWORK, (3, 32, 32), 10, torch.Generator().manual_seed(seed))


def settings(**values: object) -> Fsp:
    return Fsp(method="fsp", schedule="fsp", teacher="teacher/1", **values)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_matrix_equals_four_loops(memory_format: torch.memory_format) -> None:
    first = torch.randn(3, 4, 5, 6, dtype=torch.float64).to(memory_format=memory_format)
    second = torch.randn(3, 7, 5, 6, dtype=torch.float64).to(memory_format=memory_format)
    torch.testing.assert_close(fsp_matrix(first, second), four_loops(first, second))


def test_larger_map_is_max_pooled_on_either_side() -> None:
    large, small = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 5, 4, 2, dtype=torch.float64)
    pooled = large.reshape(2, 3, 4, 2, 2, 4).amax((3, 5))
    torch.testing.assert_close(fsp_matrix(large, small), four_loops(pooled, small))
    torch.testing.assert_close(fsp_matrix(small, large), four_loops(small, pooled))


def test_sizes_without_a_whole_factor_are_refused() -> None:
    with pytest.raises(ValueError, match="do not pool"):
        fsp_matrix(torch.ones(1, 2, 7, 7), torch.ones(1, 2, 4, 4))


def test_maps_of_different_numbers_of_images_and_unknown_reductions_are_refused() -> None:
    with pytest.raises(ValueError, match="feature maps of different numbers of images: 1 and 3"):
        fsp_matrix(torch.ones(1, 2, 4, 4), torch.ones(3, 2, 4, 4))
    one, three = [torch.ones(1, 2, 3)], [torch.ones(3, 2, 3)]
    with pytest.raises(ValueError, match=r"matrices of different shapes: \(1, 2, 3\) and \(3, 2, 3\)"):
        fsp_loss(one, three, 1.0, "sum")
    with pytest.raises(ValueError, match=r"reduction = 'none': must be sum or mean"):
        fsp_loss(one, one, 1.0, "none")


def test_gradient_passes_gradcheck() -> None:
    first = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    second = torch.randn(2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fsp_matrix, (first, second))


def loss_by_hand(teacher: list[torch.Tensor], student: list[torch.Tensor], reduction: str) -> torch.Tensor:
    """Eq. (2), image by image, with a weight of 0.7."""
    loss = torch.zeros((), dtype=teacher[0].dtype)
    for t, s in zip(teacher, student, strict=True):
        for image in range(len(t)):
            square = ((t[image] - s[image]) ** 2).sum() / (t[image].numel() if reduction == "mean" else 1)
            loss += 0.7 * square / len(t)
    return loss


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_is_the_mean_over_images_of_weighted_squares(reduction: str) -> None:
    teacher = [torch.randn(4, 2, 3), torch.randn(4, 3, 5)]
    student = [torch.randn(4, 2, 3), torch.randn(4, 3, 5)]
    expected = loss_by_hand(teacher, student, reduction)
    torch.testing.assert_close(fsp_loss(teacher, student, 0.7, reduction), expected)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize(
    ("layers", "pairs"),
    [
        ("section", [("stem", "section1"), ("section1", "section2"), ("section2", "section3")]),
        ("module", [(f"section{number}.first", f"section{number}") for number in (1, 2, 3)]),
    ],
)
def test_each_setting_compares_its_own_matrices(layers: str, pairs: list[tuple[str, str]], reduction: str) -> None:
    method = settings(layers=layers, reduction=reduction, weight=0.7)
    taps = method.student_taps(NETWORK)
    assert set(taps) == {tap for pair in pairs for tap in pair}
    teacher, student = (
        {tap: torch.randn(2, NETWORK.channels(tap), 2, 3, dtype=torch.float64) for tap in taps} for _ in range(2)
    )
    by_hand = [[four_loops(of[first], of[second]) for first, second in pairs] for of in (teacher, student)]
    loss = method.loss(student, {}, method.targets(teacher), torch.zeros(2), torch.zeros(()))
    torch.testing.assert_close(loss, loss_by_hand(*by_hand, reduction))


@pytest.mark.parametrize("layers", ["section", "module"])
def test_student_equal_to_teacher_has_zero_loss(layers: str) -> None:
    objective = Objective(settings(layers=layers), Draws(1, "student"), net(0), net(0))
    x = torch.rand(2, 3, 16, 16)
    assert loss_of(objective, net(1).eval(), net(1).eval(), x) == 0
    assert loss_of(objective, net(2).eval(), net(1).eval(), x) > 0


def test_student_gets_a_gradient_everywhere_but_in_the_linear_layer() -> None:
    student, teacher = net(2), net(1).eval()
    objective = Objective(settings(), Draws(1, "student"), net(0), net(0))
    loss_of(objective, student, teacher, torch.rand(2, 3, 16, 16)).backward()
    assert {name for name, p in student.named_parameters() if p.grad is None} == {"linear.weight", "linear.bias"}


def test_channel_shuffle_gives_the_matrices_of_a_teacher_with_renamed_channels() -> None:
    """Renaming the channels of each tapped layer before the matrices are formed is the same as `channel`."""
    objective = Objective(settings(shuffle="channel"), Draws(1, "student-1-stage1"), net(0), net(0))
    names = ("stem", "section1", "section2", "section3")
    (stem, first), (first_again, second), (second_again, third) = settings(shuffle="channel").permutations(
        Draws(1, "student-1-stage1"), NETWORK
    )
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)

    class Renamed(torch.nn.Module):
        network = NETWORK

        def taps(self, x: torch.Tensor, wanted: tuple[str, ...]) -> dict[str, torch.Tensor]:
            maps = net(1).eval().taps(x, wanted)
            return {name: maps[name][:, p] for name, p in zip(names, (stem, first, second, third), strict=True)}

    x = torch.rand(2, 3, 16, 16)
    assert loss_of(objective, Renamed(), net(1).eval(), x) < 1e-10
    assert loss_of(objective, net(1).eval(), net(1).eval(), x) > 1e-3


def test_tied_shares_one_permutation_and_independent_none() -> None:
    tied = settings(shuffle="tied").permutations(Draws(1, "s"), NETWORK)
    assert torch.equal(tied[0][0], tied[0][1])
    assert torch.equal(tied[0][1], tied[1][0])
    tied = settings(shuffle="tied", layers="module").permutations(Draws(1, "s"), NETWORK)
    assert all(torch.equal(rows, columns) == (section == 0) for section, (rows, columns) in enumerate(tied))
    independent = settings(shuffle="independent").permutations(Draws(1, "s"), NETWORK)
    assert not torch.equal(independent[0][1], independent[1][0])
    none = settings().permutations(Draws(1, "s"), NETWORK)
    assert all(torch.equal(p, torch.arange(len(p))) for pair in none for p in pair)


def test_permutations_differ_between_runs_and_repeat_for_one() -> None:
    def draw(name: str) -> torch.Tensor:
        return settings(shuffle="channel").permutations(Draws(1, name), NETWORK)[2][1]

    assert torch.equal(draw("student-1-stage1"), draw("student-1-stage1"))
    assert not torch.equal(draw("student-1-stage1"), draw("student-2-stage1"))
