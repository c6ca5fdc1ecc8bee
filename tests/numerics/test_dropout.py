"""Dropout: random numbers as a function of seed, net, layer and iteration; and what nets make of them."""

import numpy as np
import pytest
import torch

from fspkd.draws import Draws, mixed, random_bits
from fspkd.models import build
from fspkd.models.dropout import Dropout
from fspkd.models.maxout import MaxoutNet
from fspkd.networks.maxout import MaxoutNetwork

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
NETWORK = {
    "architecture": "maxout",
    "layers": [{"conv": 6, "kernel": 3, "pad": 1, "pool": 3, "stride": 2}, {"full": 16, "pieces": 3}],
    "init": "unit",
    "keep": {"image": 0.8, "hidden": 0.5},
}


def splitmix64(state: int) -> int:
    """The generator as its authors wrote it: its output for a state."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def bits_by_definition(key: int, iteration: int, count: int) -> np.ndarray:
    start = splitmix64(key + iteration * GAMMA)
    words = np.array([splitmix64(start + number * GAMMA) for number in range(-(-count // 4))], np.uint64)
    return words.view(np.int16)[:count]


def at(iteration: int) -> torch.Tensor:
    return torch.tensor([iteration])


def kept(keep: float, draws: Draws, purpose: str, iteration: int, count: int = 2**18) -> np.ndarray:
    """Which of `count` elements are kept, as 0 and 1."""
    dropout = Dropout(keep, 1.0)
    dropout.randomise(draws, purpose, lambda: at(iteration))
    return dropout(torch.ones(1, count)).numpy()[0]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def test_hash_is_splitmix64() -> None:
    """The first outputs for seed 1234567, which many implementations are checked against."""
    states = torch.tensor([1234567, 1234567], dtype=torch.int64) + torch.tensor([GAMMA - 2**64, 2 * GAMMA - 2**64])
    assert [int(x) & MASK for x in mixed(states)] == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), -0x1234567890ABCDEF])
@pytest.mark.parametrize("iteration", [0, 1, 185_333])
def test_bits_are_those_of_plain_integers(key: int, iteration: int) -> None:
    for count in (1, 4, 1001):
        found = random_bits(key, at(iteration), count).numpy()
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, bits_by_definition(key, iteration, count))


@pytest.mark.parametrize("keep", [0.8, 0.5, 1e-4])
def test_the_part_that_is_kept(keep: float) -> None:
    found = np.concatenate([kept(keep, Draws(1, "net"), "dropout layer1", iteration) for iteration in range(8)])
    assert abs(found.mean() - keep) < 5 * (keep * (1 - keep) / len(found)) ** 0.5 + 2**-16


def test_iterations_layers_nets_seeds_and_neighbours_are_not_correlated() -> None:
    draws, count = Draws(1, "net-1"), 2**18
    base = kept(0.5, draws, "dropout layer1", 7)
    others = [kept(0.5, draws, "dropout layer1", 7 + apart) for apart in (1, 2, 500)]
    others += [kept(0.5, draws, f"dropout {part}", 7) for part in ("layer2", "logits")]
    others += [kept(0.5, Draws(1, "net-2"), "dropout layer1", 7), kept(0.5, Draws(2, "net-1"), "dropout layer1", 7)]
    others += [np.roll(base, shift) for shift in (1, 2, 3, 4, 8, 64)]
    for other in others:
        assert abs(correlation(base, other)) < 5 / count**0.5
    np.testing.assert_array_equal(base, kept(0.5, draws, "dropout layer1", 7))


def test_same_elements_whatever_the_layout_and_gradients_follow() -> None:
    dropout = Dropout(0.5, 2.0)
    dropout.randomise(Draws(1, "net"), "dropout layer2", lambda: at(3))
    x = torch.rand(2, 3, 4, 5) + 1
    y = dropout(x)
    assert torch.equal(y, dropout(x.to(memory_format=torch.channels_last)))
    assert set((y / x).flatten().tolist()) == {0.0, 2.0}
    lowered = x.bfloat16().requires_grad_()
    dropped = dropout(lowered)
    dropped.sum().backward()
    assert dropped.dtype == torch.bfloat16
    assert torch.equal(lowered.grad.float(), (y > 0) * 2.0)


def maxout(**changes: object) -> MaxoutNet:
    network = MaxoutNetwork.model_validate(NETWORK | changes)
    return build(network, (1, 8, 8), 10, torch.Generator().manual_seed(0))


def test_images_keep_their_scale_and_hidden_inputs_are_rescaled() -> None:
    """By the sums before and after each layer's dropout; in evaluation, and frozen, nothing is dropped."""
    net, plain = maxout().train(), maxout(keep={}).train()
    iterations = iter(range(10**6))
    net.randomise(Draws(1, "net"), lambda: at(next(iterations)))
    assert list(net.dropouts) == ["layer1", "layer2", "logits"]
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ratios = {part: (net.dropouts[part](images).sum() / images.sum()).item() for part in net.dropouts}
    assert ratios == pytest.approx({"layer1": 0.8, "layer2": 1.0, "logits": 1.0}, abs=0.05)
    assert not torch.equal(net(images), net(images))
    for still in (net.frozen(torch.float32), net.eval()):
        assert torch.equal(still(images), plain(images))
