"""Dropout: random numbers as a function of seed, net, layer and iteration; and what nets make of them."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, Project, images_of

from fspkd.draws import Draws
from fspkd.engine import step
from fspkd.engine.batches import Batches
from fspkd.engine.member import Member
from fspkd.models import build
from fspkd.models.dropout import Dropout, mixed, random_bits
from fspkd.models.maxout import MaxoutNet
from fspkd.networks.maxout import MaxoutNetwork
from fspkd.runs.spec import Run
from fspkd.train import loop

pytestmark = pytest.mark.usefixtures("not_followed")

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15
NETWORK = {
    "architecture": "maxout",
    "layers": [{"conv": 6, "kernel": 3, "pad": 1, "pool": 3, "stride": 2}, {"full": 16, "pieces": 3}],
    "init": "unit",
    "keep": {"image": 0.8, "hidden": 0.5},
}


def splitmix64(state: int) -> int:
    """The generator as its authors wrote it: what it gives at a state."""
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
    """The first numbers after the seed 1234567, which many implementations are checked by."""
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
    """By the sums that each layer is given, over many iterations; in evaluation, and frozen, nothing is dropped."""
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


# --- in the engine ------------------------------------------------------------------------------------------


def dropped_rows(project: Project, iterations: int) -> list[Run]:
    project.set("networks.dropped", NETWORK)
    project.set("schedules.dropped", [{"until": iterations, "rate": 0.01}])
    method = {"method": "cross_entropy", "schedule": "dropped"}
    project.set("rows.dropped", {"data": "images", "network": "dropped", "nets": 2, "stage2": method})
    return project.plan().nets("dropped")


def outcome(run: Run) -> tuple[str, bytes]:
    return run.folder.read_manifest().weights_sha256, run.folder.metrics.read_bytes()


def test_iterations_are_those_of_a_plain_loop(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of a loop that tells the net its iteration; blocks of several iterations, as on a GPU, give the same."""
    run, _ = dropped_rows(project, 12)
    images = images_of(run)
    losses = {}
    for block in (1, 5):
        monkeypatch.setattr(step, "BLOCK", {"cpu": block})
        net = build(run.spec.network, images.shape, images.classes, torch.Generator().manual_seed(1))
        member = Member(run.spec, images, net, None, torch.float32, None)
        (of_one,) = step.steps_of([member])
        losses[block] = []
        while not member.complete:
            for _ in range(count := of_one.load()):
                of_one.iterate()
            of_one.prepare()
            losses[block] += [loss for loss, _ in of_one.fetch()[0]]
            member.done += count
    net = build(run.spec.network, images.shape, images.classes, torch.Generator().manual_seed(1)).train()
    net.randomise(run.spec.draws, lambda: at(iteration))
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    batches, plain = Batches(images, run.spec), []
    for iteration in range(12):
        pictures, labels = batches.make(batches.draw(iteration, 1))
        loss = torch.nn.functional.cross_entropy(net(images.to_input(pictures[0])), labels[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        plain.append(loss.item())
    assert losses[1] == losses[5]
    np.testing.assert_allclose(losses[1], plain, rtol=1e-5)


def test_killed_and_resumed_alone_and_side_by_side_ends_with_the_same_bits(project: Project) -> None:
    runs = dropped_rows(project, 800)
    loop.train(runs, torch.device("cpu"), 1000)
    expected = [outcome(run) for run in runs]
    assert expected[0] != expected[1]
    for run in runs:
        shutil.rmtree(run.folder.path)
    script = REPOSITORY / "scripts" / "train.py"
    command = [sys.executable, script, "results/tiny", *(run.id for run in runs), "--checkpoint-seconds", "0.05"]
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None and not all(run.folder.checkpoint.exists() for run in runs):
        time.sleep(0.01)
    assert process.poll() is None, "the training ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for run in runs:
        loop.train([run], torch.device("cpu"), 1000)
        assert 0 < run.folder.read_manifest().attempts[-1].from_iteration < 800
    assert [outcome(run) for run in runs] == expected
