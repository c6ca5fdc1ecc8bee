"""The engine: equal to a plain loop, repeatable to the bit, the same alone and together."""

import copy
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import plain
import pytest
import torch
from conftest import Project, images_of
from torch.nn import functional as F

from fspkd.distill.fsp import Fsp
from fspkd.engine import step
from fspkd.engine.batches import Batches, batch_draws
from fspkd.engine.evaluate import accuracy_and_loss
from fspkd.engine.member import Member
from fspkd.engine.objective import Objective
from fspkd.engine.schedule import learning_rate
from fspkd.engine.step import steps_of
from fspkd.models import build
from fspkd.models.net import Net
from fspkd.runs.folder import RunFolder
from fspkd.runs.spec import Run
from fspkd.train import loop
from fspkd.train.nets import finished_net, initial_net
from fspkd.train.session import Session
from fspkd.weights import load_weights


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_weights(run.weights, run.id)


def plain_net(net: torch.nn.Module) -> plain.ResNet:
    """An oracle net, in double precision, with the weights of one of the library's."""
    oracle = plain.ResNet(8, 4, channels=1)
    oracle.load_state_dict(net.state_dict())
    return oracle.double()


@pytest.mark.parametrize("case", ["scratch", "weights of another net", "hint", "kd", "fsp", "shuffled fsp"])
def test_engine_equals_the_plain_loop(project: Project, case: str) -> None:
    """Fifty iterations and a change of rate, on the same batches; the plain loop computes in double precision."""
    project.set("training.optimizer.decay_batchnorm", False)
    project.set("schedules.long", [{"until": 40, "rate": 0.02}, {"until": 50, "rate": 0.01}])
    # Small enough that rounding differences between processors do not grow large enough to be seen.
    rate = 5e-4 if case == "kd" else 2e-3
    project.set("schedules.short", [{"until": 40, "rate": rate}, {"until": 50, "rate": rate / 2}])
    rate = 1e-4 if case == "hint" else 1e-3
    project.set("schedules.first", [{"until": 40, "rate": rate}, {"until": 50, "rate": rate / 10}])
    if case == "shuffled fsp":
        project.set("rows.student.stage1.shuffle", "channel")
    reference = {"scratch": "teacher/1", "hint": "fitnet/1", "kd": "fitnet/1"}.get(case, "student/1")
    project.train(reference)
    run = project.plan().net(reference)
    if case in ("hint", "fsp", "shuffled fsp"):
        run = run.start
    images = images_of(run)
    own = initial_net(run, images)
    net = plain_net(own).train()
    teacher = plain_net(finished_net(run.teacher, images.shape, images.classes)).eval() if run.teacher else None
    spec = run.spec
    objective = Objective(spec.method, spec.draws, own, own)
    regressors = objective.own.double()
    if case == "shuffled fsp":  # the teacher's FSP matrices are shuffled as the objective drew
        shuffled = [(matrix.rows, matrix.columns) for matrix in objective.own.values()]

    def loss_of(student: plain.Outputs, target: plain.Outputs, y: torch.Tensor) -> torch.Tensor:
        match case:
            case "hint":
                return plain.hint_loss(student, target, regressors)
            case "kd":
                return plain.kd_loss(student, target, y, 4 - 3 * iteration / 49)
            case "fsp":
                return plain.fsp_loss(student, target)
            case "shuffled fsp":
                pairs = [
                    (plain.fsp(*student[0][i : i + 2]), plain.fsp(*target[0][i : i + 2])[:, rows][:, :, columns])
                    for i, (rows, columns) in enumerate(shuffled)
                ]
                return sum(F.mse_loss(s, t) for s, t in pairs)
        return F.cross_entropy(student[1], y)

    norms = [p for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()]
    others = [p for p in [*net.parameters(), *regressors.parameters()] if not any(p is n for n in norms)]
    groups = [{"params": norms, "weight_decay": 0.0}, {"params": others}]
    optimizer = torch.optim.SGD(groups, 1.0, momentum=0.9, weight_decay=1e-4)
    batches = Batches(images, run.spec)
    losses, lengths = [], []
    for iteration in range(50):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(run.spec.schedule, iteration)
        pictures, labels = batches.make(batches.draw(iteration, 1))
        x, y = images.to_input(pictures[0]), labels[0]
        losses.append(plain.step(net, teacher, optimizer, x.double(), y, loss_of).item())
        gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
        lengths.append(sum(gradient.square().sum().item() for gradient in gradients) ** 0.5)
    engine = pd.read_csv(run.folder.metrics)
    np.testing.assert_allclose(engine["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(engine["gradient_norm"], lengths, rtol=0.05)  # rounding may switch a ReLU
    for name, tensor in net.state_dict().items():
        # The plain loop runs the whole net, and updates the statistics of layers that a hint does not reach.
        if "num_batches" not in name and not (case == "hint" and name.startswith("section3")):
            ours = weights(run)[name].double()
            assert (ours - tensor).norm() <= 1e-4 * tensor.norm() + 5e-5, name


def test_runs_side_by_side_end_with_the_bits_of_runs_alone(project: Project) -> None:
    """Runs of different lengths, and nets that share the teacher's part of a shuffled stage 1."""
    project.set("rows.student.stage1_shared", False)
    project.set("rows.student.stage1.shuffle", "channel")
    project.train("teacher/1")
    plan = project.plan()
    runs = [*(net.start for net in plan.rows["student"]), plan.net("fitnet/1").start, plan.net("teacher/2")]
    assert batch_draws(runs[0].spec) == batch_draws(runs[1].spec)
    loop.train(runs, torch.device("cpu"), 1000)
    together = {
        run.id: (run.folder.read_manifest().outputs_sha256, run.folder.read_manifest().weights_sha256) for run in runs
    }
    assert together[runs[0].id] != together[runs[1].id]
    for run in runs:
        shutil.rmtree(run.folder)
        loop.train([run], torch.device("cpu"), 1000)
        assert run.folder.read_manifest().weights_sha256 == together[run.id][1]
        assert run.folder.read_manifest().outputs_sha256["metrics.csv"] == together[run.id][0]["metrics.csv"]


def test_teachers_part_is_computed_once_for_nets_that_share_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.set("rows.student.stage1_shared", False)
    project.train("teacher/1")
    calls = []
    targets = Fsp.targets
    monkeypatch.setattr(Fsp, "targets", lambda *args: calls.append(1) or targets(*args))
    loop.train([net.start for net in project.plan().rows["student"]], torch.device("cpu"), 1000)
    assert len(calls) == 10  # iterations


def test_a_device_is_given_no_more_than_it_computes_in_time_to_be_stopped(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first two blocks are short, since the second is drawn while the first is computed; bits stay the same."""
    project.set("schedules.long", [{"until": 60, "rate": 0.1}])
    project.set("training.evaluate_every", 60)
    run, counts = project.plan().net("teacher/1"), []
    load = step.Step.load
    monkeypatch.setattr(step.Step, "load", lambda self: counts.append(load(self)) or counts[-1])
    monkeypatch.setitem(step.BLOCK, "cpu", 20)
    outcomes = set()
    for seconds in (3600, 1e-9):
        monkeypatch.setattr(loop, "SECONDS_AT_ONCE", seconds)
        loop.train([run], torch.device("cpu"), 1000)
        outcomes.add(run.folder.read_manifest().weights_sha256)
        shutil.rmtree(run.folder)
    assert counts == [10, 10, 20, 20, 10, 10, *[1] * 40]
    assert len(outcomes) == 1


def test_folded_teacher_gives_what_the_teacher_gives(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    images = images_of(run)
    net = finished_net(run, images.shape, images.classes)
    x = images.to_input(images.test[:32])
    taps = ("stem", "section1", "section2", "section3.first")
    folded = net.frozen(torch.float32)
    assert not any(p.requires_grad for p in folded.parameters())
    net.eval()
    torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)
    for name, features in net.taps(x, taps).items():
        torch.testing.assert_close(folded.taps(x, taps)[name], features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reference", ["teacher/2", "fitnet/1", "student/1"])
def test_bfloat16_loss_is_near_float32(project: Project, monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    """First losses of every kind of training, with the same teacher; bfloat16 is emulated if the processor lacks it."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project.train("teacher/1", reference)
    run = project.plan().net(reference)
    for stage in [run, *([run.start] if run.start else [])]:
        losses = {}
        for precision in ("float32", "bfloat16"):
            spec = stage.spec.model_copy(
                update={"training": stage.spec.training.model_copy(update={"precision": precision})}
            )
            copy = replace(stage, spec=spec, folder=RunFolder(project.folder / precision / stage.id))
            alone = Session(copy, images_of(copy), None)
            (step,) = steps_of([alone.member])
            step.load()
            step.iterate()
            losses[precision] = step.fetch()[0][0][0]
            assert alone.attempts[-1].precision == precision
            assert all(
                tensor.dtype in (torch.float32, torch.int64) for tensor in alone.member.net.state_dict().values()
            )
        assert losses["bfloat16"] != losses["float32"]
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


@pytest.mark.parametrize("reference", ["teacher/2", "fitnet/1", "student/1"])
def test_weights_that_are_cast_at_once_give_the_bits_of_autocast(
    project: Project, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project.set("training.precision", "bfloat16")
    project.train("teacher/1", reference)
    run = project.plan().net(reference)
    for stage in [run, *([run.start] if run.start else [])]:
        ended = []
        for at_once in (True, False):
            folder = RunFolder(project.folder / str(at_once) / stage.id)
            alone = Session(replace(stage, folder=folder), images_of(stage), None)
            alone.member.lowered = alone.member.lowered if at_once else None
            (step,) = steps_of([alone.member])
            for _ in range(3):
                step.load()
                step.iterate()
                alone.record(step.fetch()[0])
                step.prepare()
            ended.append([tensor.clone() for tensor in alone.member.changed()])
        assert all(torch.equal(one, other) for one, other in zip(*ended, strict=True))


def test_bfloat16_is_not_emulated(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    project.set("training.precision", "bfloat16")
    project.train("teacher/1")
    assert project.plan().net("teacher/1").folder.read_manifest().attempts[0].precision == "float32"


def test_linear_layer_leaves_stage_1_as_it_entered(project: Project) -> None:
    project.train("student/1", "fitnet/1")
    plan = project.plan()
    for run in (plan.net("student/1").start, plan.net("fitnet/1").start):
        before = initial_net(run, images_of(run)).state_dict()
        after = weights(run)
        assert not torch.equal(before["section1.0.conv1.weight"], after["section1.0.conv1.weight"])
        for name in ("linear.weight", "linear.bias"):
            assert torch.equal(before[name], after[name])
        beyond = before["section3.0.bn1.running_mean"], after["section3.0.bn1.running_mean"]
        assert torch.equal(*beyond) == (run.spec.method.method == "hint")  # hints end at section 2


def test_same_seed_same_bits_and_another_seed_others(project: Project) -> None:
    project.train("student/2")
    first = {
        run.id: run.folder.read_manifest().weights_sha256
        for run in project.plan().runs.values()
        if run.folder.path.exists()
    }
    shutil.rmtree("results")
    project.train("student/2")
    second = {
        run.id: run.folder.read_manifest().weights_sha256
        for run in project.plan().runs.values()
        if run.folder.path.exists()
    }
    assert first == second
    assert len(set(first.values())) == len(first) == 3
    project.set("seed", 2)
    project.train("student/2")
    assert project.plan().net("student/2").folder.read_manifest().weights_sha256 not in first.values()


def test_nets_that_share_stage_1_differ_after_stage_2(project: Project) -> None:
    project.train("student/1", "student/2")
    one, two = project.plan().rows["student"]
    assert one.start is two.start
    assert one.folder.read_manifest().weights_sha256 != two.folder.read_manifest().weights_sha256


def test_last_accuracy_and_loss_are_those_of_the_predictions(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    metrics = pd.read_csv(run.folder.metrics)
    with np.load(run.folder.predictions) as file:
        expected = 100 * (file["logits"].argmax(1) == file["labels"]).mean()
        shares = np.exp(file["logits"].astype(float))
        own = shares[np.arange(len(shares)), file["labels"]]
        loss = -np.log(own / shares.sum(1)).mean()
    assert metrics["test_accuracy"].iloc[-1] == pytest.approx(expected, abs=1e-4)
    assert run.folder.read_manifest().test_accuracy == pytest.approx(expected, abs=1e-4)
    assert metrics["test_loss"].iloc[-1] == pytest.approx(loss, rel=1e-5)
    assert list(metrics["iteration"]) == list(range(1, 21))
    assert list(metrics.dropna(subset="test_accuracy")["iteration"]) == [5, 10, 15, 20]
    assert list(metrics["learning_rate"]) == [0.1] * 12 + [0.01] * 8


@pytest.mark.parametrize(("right", "count", "percent"), [(3, 10, 30.0), (5217, 10_000, 52.17)])
def test_accuracy_is_exact(right: int, count: int, percent: float) -> None:
    labels = (torch.arange(count) >= right).long()
    accuracy, loss = accuracy_and_loss(torch.eye(2)[:1].expand(count, 2), labels)  # all predictions are class 0
    assert accuracy == percent
    assert loss == pytest.approx(math.log(1 + math.e) - percent / 100, rel=1e-5)


def test_freed_memory_is_not_given_back_and_taken_anew(project: Project) -> None:
    """Counted in pages of 4 KiB that the kernel has to provide while feature maps of 16 MB come and go."""
    code = """
import resource, torch
from fspkd.engine.device import choose
choose("cpu", 1)
net = torch.nn.Sequential(*[torch.nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)])
images = torch.rand(64, 16, 64, 64)
def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        net(images).sum().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(4)
print(faults(4))
"""
    result = project.run("python", "-c", code)
    assert int(result.stdout) < 3 * 4096, result.stderr  # three feature maps; over 100,000 if all are given back


def test_batch_norms_statistics_after_stage_1_decide_nothing(project: Project) -> None:
    """Training uses those of the batch: whatever was there when stage 2 began is forgotten, to the last bit."""
    project.set("schedules.short", [{"until": 300, "rate": 0.05}])
    run = project.plan().net("student/1")
    images = images_of(run)
    net = build(run.spec.network, images.shape, images.classes, torch.Generator().manual_seed(1))

    def trained(net: Net) -> dict[str, torch.Tensor]:
        member = Member(run.spec, images, net, None, torch.float32, None)
        (step,) = steps_of([member])
        while not member.complete:
            step.load()
            step.iterate()
            step.prepare()
            member.done += 1
        return member.net.state_dict()

    other = copy.deepcopy(net)
    statistics = [b for name, b in other.named_buffers() if name.endswith(("running_mean", "running_var"))]
    assert len(statistics) == 16  # of eight batch norms
    for buffer in statistics:
        buffer.fill_(7.0)
    one, two = trained(net), trained(other)
    assert all(torch.equal(one[name], two[name]) for name in one)
