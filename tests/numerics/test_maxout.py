"""Maxout networks: the published counts, and values and gradients against plain loops."""

from itertools import product

import pytest
import torch
import yaml
from conftest import REPOSITORY
from pydantic import TypeAdapter
from torch import Tensor, nn

from fspkd.models import build
from fspkd.models.counts import counts
from fspkd.models.maxout import Maxout, MaxoutNet, gain
from fspkd.networks import AnyNetwork
from fspkd.networks.maxout import MaxoutNetwork
from fspkd.networks.network import UpdateRule

FILE = REPOSITORY / "config/fitnets/paper.yaml"
NETWORKS: dict[str, MaxoutNetwork] = {
    name: TypeAdapter(AnyNetwork).validate_python(settings)
    for name, settings in yaml.safe_load(FILE.read_text())["networks"].items()
}
SMALL = MaxoutNetwork.model_validate(
    {
        "architecture": "maxout",
        "layers": [
            {"conv": 4, "kernel": 3, "pad": 1, "pieces": 3, "limit": 0.9, "rate": 0.05, "pool": 3, "stride": 2},
            {"conv": 3, "kernel": 2, "limit": 1.5},
            {"full": 5, "pieces": 2, "limit": 1.9},
        ],
        "softmax_limit": 1.9365,
        "init": "unit",
    }
)
SHAPE, CLASSES = (2, 6, 8), 3


def shape_of(name: str) -> tuple[int, int, int]:
    return (1, 28, 28) if "mnist" in name else (3, 32, 32)


def small(generator: int = 0) -> MaxoutNet:
    net = build(SMALL, SHAPE, CLASSES, torch.Generator().manual_seed(generator))
    for module in weighted(net):
        nn.init.normal_(module.bias, generator=torch.Generator().manual_seed(module.bias.numel()))
    return net


def weighted(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def with_pieces(network: MaxoutNetwork, pieces: int) -> MaxoutNetwork:
    layers = tuple(layer.model_copy(update={"pieces": pieces}) for layer in network.layers)
    return network.model_copy(update={"layers": layers})


# Layers, weights without biases, and multiplications of nets with two pieces in every layer: those of the FitNets paper,
# Tables 4, 5 and 6, as far as these are exact.
PUBLISHED = {
    "teacher_cifar": (5, 9_044_360, 725_090_696),
    "teacher_svhn": (5, 4_928_800, 297_936_800),
    "teacher_mnist": (4, 360_816, 28_673_136),
    "fitnet_mnist": (7, 29_944, 5_310_648),
    "fitnet1": (11, 249_576, 30_150_024),
    "fitnet2": (11, 861_928, 107_775_880),
    "fitnet3": (13, 1_569_544, 391_776_136),
    "fitnet4": (19, 2_544_712, 381_749_128),
    "depth5_30m": (5, 219_912, 27_200_904),
    "depth7_30m": (7, 208_104, 29_265_288),
    "depth9_30m": (9, 217_320, 29_855_112),
    "depth5_107m": (5, 729_736, 101_582_728),
    "depth7_107m": (7, 563_272, 104_531_848),
    "depth9_107m": (9, 756_808, 106_301_320),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_with_two_pieces_are_the_published_ones(name: str) -> None:
    assert counts(with_pieces(NETWORKS[name], 2), shape_of(name), 10) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "classes", "weights"), [("teacher_cifar", 10, 16_244_360), ("fitnet4", 10, 2_736_712), ("fitnet4", 100, 0)]
)
def test_counts_of_five_pieces_in_the_fully_connected_layer(name: str, classes: int, weights: int) -> None:
    expected = weights or 2_736_712 + 90 * 500  # a hundred classes
    assert counts(NETWORKS[name], (3, 32, 32), classes).weights == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_have_the_shapes_that_planning_knows(name: str) -> None:
    network, shape = NETWORKS[name], shape_of(name)
    assert network.name == f"maxout{len(network.layers) + 1}"
    taps = network.parts[:-1]
    with torch.device("meta"):
        found = build(network, shape, 10, None).eval().taps(torch.empty(2, *shape), taps)
    for tap in taps:
        size = network.size(tap, shape[1])
        is_map = tap != f"layer{len(taps)}" or "mnist" in name
        assert found[tap].shape[1:] == (network.channels(tap), *([size, size] if is_map else []))


def test_hints_of_the_teachers_are_as_large_as_in_the_paper() -> None:
    """Ceil-mode pooling: 7x7 on CIFAR, where floor would give 6x6."""
    found = {name: (net.channels("layer2"), net.size("layer2", 32)) for name, net in NETWORKS.items()}
    assert (found["teacher_cifar"], found["teacher_svhn"]) == ((192, 7), (128, 10))
    assert (NETWORKS["fitnet1"].channels("layer6"), NETWORKS["fitnet1"].size("layer6", 32)) == (32, 8)


# --- values and gradients -----------------------------------------------------------------------------------


def unit(inputs: Tensor, module: nn.Module, channel: int, pieces: int) -> Tensor:
    """A maxout unit, for inputs of a filter's size; Python's max takes the first of equals."""
    channels = len(module.bias) // pieces
    rows = [piece * channels + channel for piece in range(pieces)]
    return max(((module.weight[row] * inputs).sum() + module.bias[row] for row in rows), key=Tensor.item)


def by_loops(net: MaxoutNet, image_CHW: Tensor) -> Tensor:
    """The logits of one image, unit by unit and window by window."""
    *layers, linear = weighted(net)
    x = image_CHW
    for module, layer in zip(layers, net.network.layers, strict=True):
        if layer.full:
            x = torch.stack([unit(x.flatten(), module, channel, layer.pieces) for channel in range(layer.full)])
            continue
        x = nn.functional.pad(x, [layer.pad] * 4)
        height, width = (pixels - layer.kernel + 1 for pixels in x.shape[1:])
        units = {
            (c, i, j): unit(x[:, i : i + layer.kernel, j : j + layer.kernel], module, c, layer.pieces)
            for c, i, j in product(range(layer.conv), range(height), range(width))
        }
        pool, stride = layer.pool or 1, layer.stride or 1
        tops = [
            [top for top in range(0, size, stride) if top == 0 or top + pool - stride < size]
            for size in (height, width)
        ]
        maxima = [
            max(
                (units[c, i, j] for i, j in product(range(t, t + pool), range(s, s + pool)) if (c, i, j) in units),
                key=Tensor.item,
            )
            for c, t, s in product(range(layer.conv), *tops)
        ]
        x = torch.stack(maxima).view(layer.conv, *map(len, tops))
    return linear.weight @ x.flatten() + linear.bias


def test_values_and_gradients_are_those_of_plain_loops() -> None:
    """Pools of 3x3 with stride 2 hang over the edges of 6 and 8 pixels."""
    net = small().double()
    images = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights = torch.randn(2, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    parameters = list(net.parameters())
    logits = net(images.to(memory_format=torch.channels_last))
    expected = torch.stack([by_loops(net, image) for image in images])
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((logits * weights).sum(), parameters)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(found, wanted, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_of_equal_pieces_the_first_gets_the_gradient() -> None:
    x = torch.tensor(
        [[1.0, 3.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0, 0.0], [5.0, 4.0, 1.0, 6.0, 6.0]], requires_grad=True
    )
    y = Maxout(5)(x)
    assert y.flatten().tolist() == [3.0, 0.0, 6.0]
    y.backward(torch.tensor([[2.0], [3.0], [4.0]]))
    assert x.grad.tolist() == [[0, 2, 0, 0, 0], [3, 0, 0, 0, 0], [0, 0, 0, 4, 0]]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_maps_and_gradients_stay_channels_last(precision: torch.dtype) -> None:
    x = torch.randn(2, 12, 5, 7).to(precision).to(memory_format=torch.channels_last).requires_grad_()
    y = Maxout(3)(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == precision
    for tensor in (y, x.grad):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


# --- what a net is made of ----------------------------------------------------------------------------------


def test_the_papers_initialisation_is_uniform_and_biases_are_zero() -> None:
    net = build(NETWORKS["teacher_mnist"], (1, 28, 28), 10, torch.Generator().manual_seed(0))
    for module in weighted(net):
        assert module.weight.abs().max().item() == pytest.approx(0.005, rel=0.01)
        assert module.weight.std().item() == pytest.approx(0.005 / 3**0.5, rel=0.05)
        assert not module.bias.any()


@pytest.mark.parametrize("pieces", [1, 2, 3, 5])
def test_unit_initialisation_keeps_the_mean_square(pieces: int) -> None:
    network = MaxoutNetwork.model_validate(
        {"architecture": "maxout", "layers": [{"full": 2000, "pieces": pieces}], "init": "unit"}
    )
    net = build(network, (1, 20, 20), 10, torch.Generator().manual_seed(0))
    images = torch.randn(20, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = net.taps(images, ("layer1",))["layer1"]
    assert (features.square().mean() / images.square().mean()).item() == pytest.approx(1, rel=0.02)


def test_gains_of_maxima_of_normal_numbers() -> None:
    """E[max^2] of two is 1; of five, 1.800: Harter, Biometrika 48 (1961), mean 1.16296 and variance 0.4475."""
    assert [gain(1), gain(2), gain(5)] == pytest.approx([1, 1, (1.16296**2 + 0.4475) ** -0.5], abs=1e-4)


def test_layers_carry_their_update_rules() -> None:
    rules = [module.update_rule for module in weighted(small())]
    assert rules == [UpdateRule(0.05, 0.9), UpdateRule(1, 1.5), UpdateRule(1, 1.9), UpdateRule(1, 1.9365)]


def test_parameters_up_to_a_tap() -> None:
    net = small()
    everything = [*weighted(net)[:2], *weighted(net)[2:]]
    for taps, layers in ((("layer2",), 2), (("layer1", "layer3"), 3), (("logits",), 4)):
        expected = [p for module in everything[:layers] for p in module.parameters()]
        assert [id(p) for p in net.parameters_to(taps)] == [id(p) for p in expected]


def test_frozen_teacher_computes_in_its_precision() -> None:
    net = small()
    frozen = net.frozen(torch.bfloat16)
    assert {p.dtype for p in frozen.parameters()} == {torch.bfloat16}
    images = torch.rand(4, *SHAPE)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = frozen(images)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), net(images), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("layers", "size", "problem"),
    [
        ([{"conv": 4, "kernel": 9}], (12, 8), "maxout2, layer1: kernel = 9, pad = 0 does not fit into maps of 8x12"),
        ([{"conv": 4, "kernel": 9, "pad": 1}], (8, 8), None),
        (
            [{"conv": 4, "kernel": 3, "pool": 2}, {"conv": 4, "kernel": 3, "pool": 4, "stride": 2}],
            (12, 12),
            "maxout3, layer2: pool = 4 does not fit into maps of 3x3",
        ),
        (
            [{"conv": 4, "kernel": 3, "pool": 2}, {"full": 4}],
            (3, 3),
            "maxout3, layer1: pool = 2 does not fit into maps of 1x1",
        ),
        ([{"full": 4}], (1, 1), None),
    ],
)
def test_images_that_are_too_small(layers: list[dict], size: tuple[int, int], problem: str | None) -> None:
    network = MaxoutNetwork.model_validate({"architecture": "maxout", "layers": layers})
    found = network.size_problem(size)
    assert found is problem is None or found.startswith(problem)
