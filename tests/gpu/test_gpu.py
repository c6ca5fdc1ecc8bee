"""The engine on a GPU: captured equals eager, together equals alone, resumed equals uninterrupted."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project

from fspkd.draws import random_bits
from fspkd.engine import device, step, tabulated, validation
from fspkd.engine.capture import Captured
from fspkd.report import inference_time, training_time
from fspkd.runs.spec import Run
from fspkd.train import loop
from fspkd.train.session import Session

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def gpu(project: Project) -> torch.device:
    project.set("schedules.long", [{"until": 300, "rate": 0.05}, {"until": 450, "rate": 0.005}])
    project.set("schedules.first", [{"until": 250, "rate": 1e-3}, {"until": 300, "rate": 1e-4}])
    project.set("training.evaluate_every", 90)
    project.set("rows.student.stage1_shared", False)
    project.set("rows.student.stage1.shuffle", "channel")
    return device.choose("cuda", 1)


def eager(self: Captured) -> None:
    """Call the function without capturing it."""
    with torch.cuda.stream(self.stream):
        self.function()


def outcome(run: Run) -> tuple[str, bytes]:
    return run.folder.read_manifest().weights_sha256, run.folder.metrics.read_bytes()


def add_fitnets(project: Project) -> None:
    """Rows of maxout nets, trained as FitNets and their teachers are."""
    layer = {"conv": 8, "kernel": 3, "pad": 1, "pool": 4, "stride": 2, "limit": 0.9, "rate": 0.5}
    layers = [layer, {"full": 16, "pieces": 5, "limit": 1.9}]
    net = {"architecture": "maxout", "layers": layers, "init": "unit", "softmax_limit": 1.9365}
    project.set("networks.maxout", {**net, "keep": {"image": 0.8, "hidden": 0.5}})
    project.set("networks.thin", {**net, "layers": [{**layer, "conv": 4}, layers[1]]})
    project.set("schedules.lines", [{"until": 300, "rate": 0.05, "to": 0.01, "momentum": 0.5, "momentum_to": 0.7}])
    heavy_ball = {"algorithm": "heavy_ball", "momentum": 0.5}
    stage2 = {"method": "cross_entropy", "schedule": "lines"}
    row = {"data": "images", "nets": 1}
    project.set("rows.maxout", {**row, "nets": 2, "network": "maxout", "stage2": stage2, "optimizer": heavy_ball})
    hint = {"guided": "layer1", "hint": "layer1", "regressor_init": 0.05, "regressor_limit": 0.9}
    learns = {"teacher": "maxout/1", "schedule": "slow"}
    project.set("schedules.slow", [{"until": 300, "rate": 1e-3}])
    stages = {"stage1": {"method": "hint", **learns, **hint}, "stage2": {"method": "kd", **learns}}
    project.set("rows.thin", {**row, "network": "thin", **stages, "optimizer": {"algorithm": "rmsprop"}})


def add_other_nets(project: Project) -> None:
    """Rows of other architectures, one with dropout, one on images that are prepared batch by batch."""
    nets = {
        "imagenet": {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4},
        "mobile": {"architecture": "torchvision", "model": "mobilenet_v3_small"},
    }
    project.set("data.whitened", {"name": "whitened", "source": "digits", "preprocess": {"method": "gcn_zca"}})
    project.set("data.contrast", {"name": "contrast", "source": "digits", "preprocess": {"method": "gcn_lcn"}})
    project.set("schedules.falling", [{"until": 100, "rate": 0.05, "to": 0.01}])
    stage2 = {"method": "cross_entropy", "schedule": "falling"}
    for name, net in nets.items():
        project.set(f"networks.{name}", net)
        project.set(f"rows.{name}", {"data": "images", "network": name, "nets": 1, "stage2": stage2})
    for name in ("whitened", "contrast"):
        project.set(f"rows.{name}", {"data": name, "network": "net", "nets": 1, "stage2": stage2})


@pytest.mark.parametrize("augment", [{"pad": 1, "flip": True}, {"flip": True}], ids=["cropped", "flipped"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_captured_equals_eager(
    project: Project, monkeypatch: pytest.MonkeyPatch, precision: str, augment: dict
) -> None:
    """Also, where images are only flipped, a table of the teacher's outputs equals computing them."""
    project.set("training.precision", precision)
    project.set("data.images.augment", augment)
    project.set("schedules.short", [{"until": 100, "rate": 0.05}])  # more images than the table has rows
    for method in ("attention_transfer", "relational_kd"):
        stage2 = {"method": method, "teacher": "teacher/1", "schedule": "long"}
        project.set(f"rows.{method}", {"data": "images", "network": "net", "nets": 1, "stage2": stage2})
    add_fitnets(project)
    add_other_nets(project)
    project.pack()
    references = ("teacher/2", "thin/1", "fitnet/1", "student/1", "attention_transfer/1", "relational_kd/1")
    references += ("imagenet/1", "mobile/1", "whitened/1", "contrast/1")
    project.train(*references, device="cuda")
    runs = [run for run in project.plan().runs.values() if run.folder.path.exists()]
    captured = {run.id: outcome(run) for run in runs}
    shutil.rmtree("results")

    monkeypatch.setattr(Captured, "__call__", eager)
    monkeypatch.setattr(tabulated, "BUDGET", 0)
    project.train(*references, device="cuda")
    assert {run.id: outcome(run) for run in runs} == captured


def test_dropouts_bits_are_those_of_a_cpu() -> None:
    for key, iteration in ((-(2**63), 0), (2**63 - 1, 185_333)):
        on_cpu = random_bits(key, torch.tensor([iteration]), 2**16 + 3)
        assert torch.equal(random_bits(key, torch.tensor([iteration], device="cuda"), 2**16 + 3).cpu(), on_cpu)


def test_together_equals_alone(project: Project, gpu: torch.device) -> None:
    add_fitnets(project)
    project.train("teacher/1", "maxout/1", device="cuda")
    plan = project.plan()
    fitnets = [plan.net("maxout/2"), plan.net("thin/1").start]  # with dropout, with RMSProp
    runs = [*(net.start for net in plan.rows["student"]), plan.net("fitnet/1").start, plan.net("teacher/2"), *fitnets]
    loop.train(runs, gpu, 1000)
    together = [outcome(run) for run in runs]
    for run, expected in zip(runs, together, strict=True):
        shutil.rmtree(run.folder)
        loop.train([run], gpu, 1000)
        assert outcome(run) == expected


def test_stopped_by_validation_is_the_same_captured_together_and_alone(
    project: Project, gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.set("training.precision", "bfloat16")
    project.set("schedules.first", [{"until": 200, "rate": 5e-3}])
    project.set("data.images.validation", 120)
    project.set("training.stop", {"by": "validation", "patience": 30, "every": 10})
    project.pack()
    project.train("teacher/1", device="cuda")
    plan = project.plan()
    runs = [*(net.start for net in plan.rows["student"]), plan.net("fitnet/1").start, plan.net("teacher/2")]
    loop.train(runs, gpu, 1000)
    together = [outcome(run) for run in runs]
    for run in runs:
        shutil.rmtree(run.folder)
        loop.train([run], gpu, 1000)
    assert [outcome(run) for run in runs] == together
    monkeypatch.setattr(validation, "BUDGET", 0)
    monkeypatch.setattr(Captured, "__call__", eager)
    for run in runs:
        shutil.rmtree(run.folder)
    loop.train(runs, gpu, 0)
    assert [outcome(run) for run in runs] == together


def test_length_of_a_block_changes_no_bit(project: Project, gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    run = project.plan().net("teacher/1")
    loop.train([run], gpu, 1000)
    expected = outcome(run)
    shutil.rmtree(run.folder)
    monkeypatch.setattr(step, "BLOCK_BYTES", 1)  # a block of one iteration
    loop.train([run], gpu, 1000)
    assert outcome(run) == expected


@pytest.mark.parametrize("net", ["teacher/1", "maxout/1", "thin/1"])
def test_resumed_equals_uninterrupted(
    project: Project, gpu: torch.device, monkeypatch: pytest.MonkeyPatch, net: str
) -> None:
    """With each optimiser, and with dropout."""
    add_fitnets(project)
    project.train(net, device="cuda")
    run = project.plan().net(net)
    expected = outcome(run)
    shutil.rmtree(run.folder)
    record = Session.record

    def die_later(self: Session, values: list) -> object:
        if self.member.done >= 270:
            raise KeyboardInterrupt
        return record(self, values)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", die_later)
        with pytest.raises(KeyboardInterrupt):
            loop.train([run], gpu, 0)
    loop.train([run], gpu, 1000)
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 270]
    assert outcome(run) == expected


def test_times_are_measured(project: Project, gpu: torch.device) -> None:
    timing = {
        "kind": "inference_time",
        "title": "Times",
        "teacher": "teacher/1",
        "rows": {"One": "teacher/1", "Two": "teacher/2"},
    }
    project.set("timings.inference", timing)
    project.train("teacher/1", "teacher/2", device="cuda")
    of_training = training_time.measure(project.plan(), "timing", gpu)
    assert (of_training["value"] > 0).all()
    of_inference = inference_time.measure(project.plan(), "inference", gpu)
    assert (of_inference["seconds"] > 0).all()
    assert {*of_training["device"], *of_inference["device"]} == {torch.cuda.get_device_name(gpu)}


def test_gpu_and_cpu_agree(project: Project) -> None:
    run = project.plan().net("teacher/1")
    losses = {}
    for where in ("cuda", "cpu"):
        project.train("teacher/1", device=where)
        losses[where] = pd.read_csv(run.folder.metrics, nrows=5)["loss"]  # later ones may differ at a ReLU's edge
        shutil.rmtree("results")
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-5)  # TF32 would make it 1e-3


def test_first_command_of_a_user(workflow: Project) -> None:
    pytest.importorskip("snakemake")  # which the other tests do without
    result = workflow.run("snakemake", "results/tiny/table1.csv")
    assert result.returncode == 0, result.stdout + result.stderr
    folder = workflow.plan().net("teacher/1").folder
    assert {attempt.device for attempt in folder.read_manifest().attempts} == {torch.cuda.get_device_name()}
    assert (pd.read_csv(folder.usage)["gpu_0_memory_usage_megabytes"] > 0).all()
