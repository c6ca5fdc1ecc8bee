"""FitNets' training: the engine against a plain loop that stores a channel's pieces side by side, as the authors do."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import plain
import pytest
import torch
from conftest import REPOSITORY, Project, images_of
from image_folders import read_source
from test_dropout import bits_by_definition
from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.data.packed import save_packed
from fspkd.engine import step
from fspkd.engine.batches import Batches, Images
from fspkd.engine.objective import Objective
from fspkd.engine.tabulated import Tabulated
from fspkd.models.maxout import MaxoutNet
from fspkd.runs.spec import Run, RunSpec
from fspkd.train import loop
from fspkd.train.nets import finished_net, initial_net

# Maps of 8x8 pixels become 4x4 by windows that hang over the edge, and then 3x3.
TEACHER = {
    "architecture": "maxout",
    "layers": [
        {"conv": 6, "kernel": 3, "pad": 1, "pool": 3, "stride": 2, "limit": 0.9, "rate": 0.05},
        {"conv": 5, "kernel": 2, "limit": 0.8, "rate": 0.5},
        {"full": 16, "pieces": 3, "limit": 0.7},
    ],
    "softmax_limit": 0.9,
    "init": "unit",
    "keep": {"image": 0.8, "hidden": 0.5},
}
STUDENT = {
    "architecture": "maxout",
    "layers": [
        {"conv": 4, "kernel": 3, "pad": 1, "limit": 0.9, "rate": 0.05},
        {"conv": 3, "kernel": 3, "pad": 1, "limit": 0.9, "rate": 0.5, "pool": 2, "stride": 2},
        {"conv": 4, "kernel": 3, "pad": 1, "limit": 0.9, "rate": 0.05, "pool": 2, "stride": 2},
        {"full": 10, "pieces": 5, "limit": 0.7},
    ],
    "softmax_limit": 0.9,
    "init": "unit",
}
ITERATIONS = 50
RATE = 5e-4  # of RMSProp


class PlainNet(plain.MaxoutNet):
    """The oracle, in double precision, which pools window by window."""

    def pooled(self, x: Tensor, size: int, stride: int) -> Tensor:
        tops, lefts = (range(0, pixels - size + stride, stride) for pixels in x.shape[2:])
        rows = [[x[:, :, t : t + size, s : s + size].amax((2, 3)) for s in lefts] for t in tops]
        return torch.stack([torch.stack(row, -1) for row in rows], -2)


class HeavyBall(torch.optim.Optimizer):
    """v = momentum v - rate gradient; weights += v. Then each filter is scaled down to its limit."""

    def __init__(self, groups: list[dict]) -> None:
        super().__init__(groups, {"limit": None, "momentum": None})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                before = self.state[p].get("v", 0)
                self.state[p]["v"] = v = group["momentum"] * before - group["lr"] * p.grad
                p += v
                for row in p if group["limit"] else ():
                    length = sum(w * w for w in row.flatten().tolist()) ** 0.5
                    if length > group["limit"]:
                        row *= group["limit"] / length


def side_by_side(ours: Tensor, pieces: int) -> Tensor:
    """Reorder filters, stored piece by piece, to have each channel's pieces side by side."""
    return ours.unflatten(0, (pieces, -1)).transpose(0, 1).flatten(0, 1)


@torch.no_grad()
def copied(ours: nn.Module, theirs: nn.Module, pieces: int) -> nn.Module:
    for name, parameter in theirs.named_parameters():
        parameter.copy_(side_by_side(ours.get_parameter(name), pieces))
    return theirs


def plain_net(net: MaxoutNet, images: Images) -> PlainNet:
    """An oracle net with the weights of one of the library's."""
    layers = net.network.layers
    oracle = PlainNet(layers, images.shape, images.classes).double()
    weighted = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for ours, theirs, layer in zip(weighted, oracle.weighted, layers, strict=False):
        copied(ours, theirs, layer.pieces)
    copied(net.linear, oracle.linear, 1)
    return oracle


def drop_out(net: PlainNet, spec: RunSpec, images: Images, iteration: Callable[[], int]) -> None:
    """Apply dropout to each layer's input, by its documented random numbers."""
    network = spec.network
    before = [images.shape]
    for tap in network.parts[:-1]:
        before.append((network.channels(tap), *(network.size(tap, pixels) for pixels in images.size)))
    for number, (part, weighted) in enumerate(zip(network.parts, [*net.weighted, net.linear], strict=True)):
        keep = network.keep.hidden if number else network.keep.image
        key = int(spec.draws.generator(f"dropout {part}").integers(-(2**63), 2**63))

        def given(
            _: nn.Module, inputs: tuple[Tensor], key: int = key, keep: float = keep, number: int = number
        ) -> Tensor:
            (x,) = inputs
            channels, height, width = before[number]
            bits = bits_by_definition(key, iteration(), x.numel()).astype(np.int64)
            kept = torch.from_numpy((bits + 2**15) / 2**16 < keep).view(len(x), height, width, channels)
            return x * kept.movedim(-1, 1).reshape(x.shape) / (keep if number else 1)

        weighted.register_forward_pre_hook(given)


def set_rows(project: Project, iterations: int) -> None:
    """Two teachers, two FitNets, and two nets that learn by distillation alone; on whitened images.

    Where images are black, a first layer's pieces differ only by rounding, which would then decide what is learnt.
    """
    project.set("data.images.preprocess", {"method": "gcn_zca", "scale": 55})
    data = project.plan().data["images"]
    save_packed(read_source(data), data.path)
    project.set("networks.maxout", TEACHER)
    project.set("networks.thin", STUDENT)
    changes = {"rate": 0.02, "to": 0.01, "momentum": 0.5, "momentum_to": 0.9}
    project.set("schedules.line", [{"until": iterations, **changes}])
    project.set("schedules.stage", [{"until": iterations, "rate": RATE}])
    row = {"data": "images", "nets": 2}
    teacher = {"network": "maxout", "optimizer": {"algorithm": "heavy_ball", "momentum": 0.5}}
    student = {"network": "thin", "optimizer": {"algorithm": "rmsprop"}}
    taught = {"teacher": "maxout/1", "schedule": "stage"}
    hint = {"method": "hint", "guided": "layer2", "hint": "layer2", "regressor_init": 0.1, "regressor_limit": 0.15}
    kd = {"stage2": {"method": "kd", **taught}}
    project.set("rows.maxout", {**row, **teacher, "stage2": {"method": "cross_entropy", "schedule": "line"}})
    project.set("rows.thin", {**row, **student, **kd, "stage1": {**hint, **taught}, "stage1_shared": False})
    project.set("rows.kd", {**row, **student, **kd})


@pytest.mark.parametrize("case", ["teacher", "hint", "kd"])
def test_engine_equals_the_plain_loop(project: Project, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Fifty iterations on the same batches; the engine gets the teacher's in blocks, as on a GPU."""
    set_rows(project, ITERATIONS)
    if case == "kd":  # without flips, the teacher's outputs are cached
        project.set("data.images.augment", {})
    if case == "teacher":
        monkeypatch.setitem(step.BLOCK, "cpu", 3)
    reference = "maxout/1" if case == "teacher" else "thin/1"
    project.train(reference)
    run = project.plan().net(reference)
    run = run.start if case == "hint" else run
    spec, images = run.spec, images_of(run)
    own = initial_net(run, images)
    net = plain_net(own, images)
    groups = net.groups(1.0, spec.network.softmax_limit)
    teacher, regressors = None, nn.ModuleDict()
    if run.teacher:
        finished = finished_net(run.teacher, images.shape, images.classes)
        teacher = plain_net(finished, images).requires_grad_(False)
    if case == "hint":
        conv, _ = Objective(spec.method, spec.draws, own, finished).own["layer2"]
        regressor = copied(conv, nn.Conv2d(3, 10, 2).double(), 2)
        regressors["layer2"] = nn.Sequential(regressor, plain.Maxout(2))
        groups += plain.groups_of(regressor, 1.0, 0.15)
    if case == "teacher":
        drop_out(net, spec, images, lambda: iteration)

    def loss_of(student: plain.Outputs, target: plain.Outputs | None, y: Tensor) -> Tensor:
        match case:
            case "hint":
                return plain.hint_loss(student, target, regressors, hint=2)
            case "kd":
                return plain.kd_loss(student, target, y, 4 - 3 * iteration / (ITERATIONS - 1))
        return F.cross_entropy(student[1], y)

    optimizer = (HeavyBall if case == "teacher" else plain.Rmsprop)(groups)
    scales = [group["lr"] for group in groups]
    batches = Batches(images, spec)
    losses = []
    for iteration in range(ITERATIONS):
        passed = iteration / ITERATIONS
        for group, scale in zip(optimizer.param_groups, scales, strict=True):
            group["lr"] = scale * (0.02 - 0.01 * passed if case == "teacher" else RATE)
            group["momentum"] = 0.5 + 0.4 * passed
        pictures, labels = batches.make(batches.draw(iteration, 1))
        x = images.to_input(pictures[0]).double()
        losses.append(plain.step(net, teacher, optimizer, x, labels[0], loss_of).item())
    np.testing.assert_allclose(pd.read_csv(run.folder.metrics)["loss"], losses, rtol=1e-5)
    ended = plain_net(finished_net(run, images.shape, images.classes), images)
    for (name, ours), expected in zip(ended.named_parameters(), net.parameters(), strict=True):
        assert (ours - expected).norm() <= 1e-4 * expected.norm() + 1e-5, name


@pytest.mark.usefixtures("not_followed")
def test_killed_and_resumed_alone_and_side_by_side_ends_with_the_same_bits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixed job: dropout; RMSProp with and without a regressor; the teacher's part computed once."""
    iterations = 120
    set_rows(project, iterations)
    project.set("data.images.augment", {})
    project.set("training.evaluate_every", 100)
    project.train("maxout/1")
    plan = project.plan()
    runs = [plan.net("maxout/2"), *(net.start for net in plan.nets("thin")), plan.net("kd/1")]

    def outcome(run: Run) -> tuple[str, bytes]:
        return run.folder.read_manifest().weights_sha256, run.folder.metrics.read_bytes()

    tables, of = [], Tabulated.of
    monkeypatch.setattr(step.Tabulated, "of", lambda *given: tables.append(of(*given)) or tables[-1])
    loop.train(runs, torch.device("cpu"), 1000)
    assert [table is not None for table in tables] == [False, True, True]  # the hints' is shared
    expected = [outcome(run) for run in runs]
    assert len({weights for weights, _ in expected}) == len(runs)
    for run in runs:
        shutil.rmtree(run.folder.path)
    script = REPOSITORY / "scripts" / "train.py"
    command = [sys.executable, script, "results/tiny", *(run.id for run in runs), "--checkpoint-seconds", "0.05"]
    process = subprocess.Popen(command, start_new_session=True)
    growing = runs[-1].folder.growing_metrics
    while process.poll() is None and (not growing.exists() or growing.read_bytes().count(b"\n") < iterations / 4):
        time.sleep(0.01)
    assert process.poll() is None, "the training ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    monkeypatch.setitem(step.BLOCK, "cpu", 3)  # several iterations at once, as on a GPU
    for run in runs:
        loop.train([run], torch.device("cpu"), 1000)
        assert 0 < run.folder.read_manifest().attempts[-1].from_iteration < iterations
    assert [outcome(run) for run in runs] == expected
