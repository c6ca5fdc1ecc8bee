"""Stopping by validation: when training ends, what it keeps, and that nothing else decides either."""

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
from torch import nn
from torch.nn import functional as F

from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.engine import step, validation
from fspkd.engine.member import Member
from fspkd.engine.step import steps_of
from fspkd.errors import UserError
from fspkd.runs.folder import RunFolder
from fspkd.runs.spec import Run
from fspkd.train import loop, session
from fspkd.train.nets import finished_net
from fspkd.train.session import Session
from fspkd.weights import load_weights

EVERY, PATIENCE = 2, 6
LAYERS = [{"conv": 8, "kernel": 3, "pad": 1, "pool": 4, "stride": 2}, {"conv": 8, "kernel": 3, "pad": 1}]


@pytest.fixture(autouse=True)
def divided(project: Project) -> None:
    """Rates at which first stages end early, and a teacher that does not."""
    project.set("data.images.validation", 120)
    project.set("schedules.first", [{"until": 40, "rate": 5e-3}])
    project.set("schedules.short", [{"until": 40, "rate": 0.05}])
    project.set("rows.student.stage1_shared", False)
    project.set("training.stop", {"by": "validation", "patience": PATIENCE, "every": EVERY})
    project.set("rows.teacher.stop", {"by": "schedule"})
    project.pack()


def first_stages(project: Project) -> list[Run]:
    """Two that share a step, and another; they end at different iterations."""
    plan = project.plan()
    return [*(net.start for net in plan.rows["student"]), plan.net("fitnet/1").start]


def outcome(run: Run) -> tuple:
    manifest = run.folder.read_manifest()
    kept = (manifest.iterations, manifest.best_iteration, manifest.best_validation, manifest.test_accuracy)
    return kept, manifest.weights_sha256, run.folder.metrics.read_bytes()


def states(run: Run, folder: RunFolder) -> list[tuple[int, nn.Module, nn.Module]]:
    """The net and the method's own modules at each iteration that is validated, in a training that never stops early."""
    training = run.spec.training.model_copy(update={"stop": None})
    whole = replace(run, spec=run.spec.model_copy(update={"training": training}), folder=folder)
    going = Session(whole, images_of(run), None)
    (step,) = steps_of([going.member])
    found = []
    while not going.member.complete:
        step.load()
        step.iterate()
        going.record(step.fetch()[0])
        step.prepare()
        if going.member.done % EVERY == 0:
            found.append((going.member.done, *copy.deepcopy((going.member.net, going.member.objective.own))))
    return found


@torch.no_grad()
def plain_look(run: Run, net: nn.Module, regressors: nn.ModuleDict, iteration: int) -> tuple[float, float]:
    """The loss on all validation images at once, in double precision, and what decides: in a last stage, the error."""
    images, method = images_of(run), run.spec.method
    x, y = images.validation.permute(0, 3, 1, 2).double() / 255, images.validation_labels
    net = net.double().eval()
    if run.spec.stage == 2:
        return F.cross_entropy(net(x), y).item(), 100 * (net(x).argmax(1) != y).double().mean().item()
    teacher = finished_net(run.teacher, images.shape, images.classes).double().eval()
    if method.method == "kd":
        loss = plain.kd_loss(([], net(x)), ([], teacher(x)), y, 4 - 3 * (iteration - 1) / 39).item()
        return loss, loss
    taps = method.student_taps(net.network), method.teacher_taps(teacher.network)
    student, hints = (of.taps(x, wanted).values() for of, wanted in zip((net, teacher), taps, strict=True))
    regressed = [regressors[tap].double()(maps) for tap, maps in zip(taps[0], student, strict=True)]
    loss = sum(0.5 * (h - r).square().sum() / len(x) for h, r in zip(hints, regressed, strict=True)).item()
    return loss, loss


def check_against_plain_looks(run: Run, whole: RunFolder) -> None:
    looks, best, best_at = [], math.inf, 0
    for iteration, student, regressors in states(run, whole):
        kept = copy.deepcopy(student.state_dict())
        looks.append(plain_look(run, student, regressors, iteration))
        if looks[-1][1] < best:
            best, best_at, best_state = looks[-1][1], iteration, kept
        elif iteration - best_at >= PATIENCE:
            break
    manifest, metrics = run.folder.read_manifest(), pd.read_csv(run.folder.metrics)
    assert (manifest.iterations, manifest.best_iteration, len(metrics)) == (iteration, best_at, iteration)
    assert manifest.best_validation == pytest.approx(best, rel=1e-5)
    weights = load_weights(run.weights, run.id)
    assert all(torch.equal(weights[name], tensor) for name, tensor in best_state.items())
    measured = metrics.dropna(subset="validation_loss")
    assert measured["iteration"].tolist() == list(range(EVERY, iteration + 1, EVERY))
    decides = measured["validation_loss"] if run.spec.stage == 1 else 100 - measured["validation_accuracy"]
    columns = np.stack([measured["validation_loss"], decides], 1)
    np.testing.assert_allclose(columns, looks, rtol=1e-5, atol=1e-5)


def test_both_stages_end_and_keep_what_plain_looks_at_every_measurement_say(project: Project) -> None:
    project.set("training.evaluate_every", 4)  # also where stage 2 ends
    project.set("schedules.first", [{"until": 40, "rate": 3e-2}])
    project.train("fitnet/1")
    run = project.plan().net("fitnet/1")
    for stage in (run.stage1, run):
        check_against_plain_looks(stage, RunFolder(project.folder / f"whole {stage.id}"))
        assert stage.folder.read_manifest().iterations < 40
    first, metrics = pd.read_csv(run.stage1.folder.metrics), pd.read_csv(run.folder.metrics)
    assert first[["test_accuracy", "validation_accuracy"]].isna().all(axis=None)
    assert metrics.dropna(subset="test_accuracy")["iteration"].tolist() == list(range(4, len(metrics) + 1, 4))
    images = images_of(run)
    with np.load(run.folder.predictions) as file:
        expected = finished_net(run, images.shape, images.classes).eval()(images.to_input(images.test)).detach()
        np.testing.assert_allclose(file["logits"], expected, rtol=1e-4, atol=1e-6 * expected.abs().max())
        correct = 100 * (file["logits"].argmax(1) == file["labels"]).mean()
    assert run.folder.read_manifest().test_accuracy == pytest.approx(correct, abs=1e-4)


@pytest.mark.parametrize("case", ["hint of a net with dropout", "kd, whose weight falls"])
def test_first_stage_is_judged_by_its_loss_as_it_is_in_evaluation(project: Project, case: str) -> None:
    learning = {"teacher": "teacher/1", "schedule": "first"}
    if case == "kd, whose weight falls":
        project.set("rows.fitnet.stage1", {"method": "kd", **learning})
    else:
        keep = {"image": 0.8, "hidden": 0.5}
        project.set("networks.net", {"architecture": "maxout", "layers": LAYERS, "init": "unit", "keep": keep})
        for row in ("student", "fitnet"):
            project.set(f"rows.{row}.stage1", {"method": "hint", "guided": "layer2", "hint": "layer1", **learning})
        project.set("timings.timing", None)
        project.set("claims", ...)
    project.train("teacher/1")
    run = project.plan().net("fitnet/1").stage1
    loop.train([run], torch.device("cpu"), 1000)
    check_against_plain_looks(run, RunFolder(project.folder / "whole"))


def test_first_stage_is_measured_in_the_precision_that_it_is_trained_in(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project.train("teacher/1")
    run = project.plan().net("fitnet/1").start
    losses = {}
    for precision in ("float32", "bfloat16"):
        training = run.spec.training.model_copy(update={"precision": precision})
        folder = RunFolder(project.folder / precision)
        member = Session(
            replace(run, spec=run.spec.model_copy(update={"training": training}), folder=folder), images_of(run), None
        ).member
        member.done = 2
        losses[precision] = member.validate()[1]
        assert {tensor.dtype for tensor in member.stopping.best.values()} == {torch.float32, torch.int64}
    assert losses["float32"] != losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_runs_that_end_at_different_iterations_are_side_by_side_what_they_are_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the teacher's outputs are not cached, and if killed and resumed together, again and again."""
    project.train("teacher/1")
    runs = first_stages(project)
    with monkeypatch.context() as patch:
        patch.setattr(validation, "BUDGET", 0)
        loop.train(runs, torch.device("cpu"), 1000)
    together = [outcome(run) for run in runs]
    assert len({kept[0] for kept, *_ in together}) == 3
    for run, expected in zip(runs, together, strict=True):
        shutil.rmtree(run.folder)
        loop.train([run], torch.device("cpu"), 1000)
        assert outcome(run) == expected
        shutil.rmtree(run.folder)
    record, left = Session.record, 0

    def die_later(self: Session, values: list) -> str:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return record(self, values)

    monkeypatch.setattr(Session, "record", die_later)
    deaths = 0
    while not all(run.folder.is_finished for run in runs):
        left = 19  # within an iteration of the runs
        try:
            loop.train(runs, torch.device("cpu"), 0)
        except KeyboardInterrupt:
            deaths += 1
    assert deaths >= 2
    assert [outcome(run) for run in runs] == together


def test_blocks_of_iterations_change_neither_validations_nor_bits(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.train("teacher/1")
    run, counts, outcomes = first_stages(project)[0], [], []
    load = step.Step.load
    monkeypatch.setattr(step.Step, "load", lambda self: counts.append(load(self)) or counts[-1])
    for block in (1, 3):
        monkeypatch.setitem(step.BLOCK, "cpu", block)
        loop.train([run], torch.device("cpu"), 1000)
        outcomes.append(outcome(run))
        validated = pd.read_csv(run.folder.metrics).dropna(subset="validation_loss")["iteration"]
        length = run.folder.read_manifest().iterations
        assert validated.tolist() == list(range(EVERY, length + 1, EVERY))
        shutil.rmtree(run.folder)
    assert length < run.spec.iterations
    assert set(counts) == {1, EVERY}  # tests, at other iterations, end blocks too
    assert outcomes[0] == outcomes[1]


def test_checkpoint_of_a_run_that_has_stopped_is_complete(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.train("teacher/1")
    run = first_stages(project)[0]
    loop.train([run], torch.device("cpu"), 1000)
    first, length = outcome(run), run.folder.read_manifest().iterations
    assert length < run.spec.iterations
    for file in (run.folder.manifest, *run.folder.outputs(stage=1)):
        file.unlink()
    loop.train([run], torch.device("cpu"), 1000)
    assert outcome(run) == first
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, length]
    run.folder.manifest.unlink()
    monkeypatch.setattr(session.Run, "code_sha256", {"engine": "other", "method": "code"})
    loop.train([run], torch.device("cpu"), 1000)  # other code's checkpoint is not used
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0]


def test_validation_images_decide_and_test_images_do_not(project: Project) -> None:
    project.set("rows.teacher.stop", ...)
    run = project.plan().net("teacher/2")
    data = load_packed(run.data.path)
    decided = {}
    for changed in ("nothing", "test", "validation"):
        labels = {split: of[::-1].copy() if split == changed else of for split, of in data.labels.items()}
        images = {split: of[::-1].copy() if split == "test" == changed else of for split, of in data.images.items()}
        save_packed(PackedData(images, labels, data.classes, data.source), run.data.path)
        project.train("teacher/2")
        metrics = pd.read_csv(run.folder.metrics).drop(columns=["test_loss", "test_accuracy"])
        decided[changed] = (outcome(run)[0][:3], outcome(run)[1], metrics.to_csv())
    assert decided["test"] == decided["nothing"]
    assert decided["validation"][0] != decided["nothing"][0]


def test_a_validation_loss_that_is_not_finite_is_a_failure(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would never be the best, so the weights of the beginning would be kept."""
    project.train("teacher/1")
    monkeypatch.setattr(Member, "validate", lambda self: (None, math.nan))
    with pytest.raises(UserError, match=rf"iteration {EVERY}: the loss on validation images is nan"):
        loop.train(first_stages(project)[:1], torch.device("cpu"), 1000)
