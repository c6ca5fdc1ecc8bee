"""Nets that torch.compile makes: the same training to rounding, and the same bits however it is cut up."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from conftest import Project, die_at, images_of
from torch import Tensor

from fspkd.engine import compiled
from fspkd.engine.step import steps_of
from fspkd.errors import UserError
from fspkd.models.cifar_resnet import CifarResNet
from fspkd.runs.folder import RunFolder
from fspkd.runs.spec import Run
from fspkd.train import loop
from fspkd.train.session import Session

pytestmark = pytest.mark.usefixtures("not_followed")


@pytest.fixture
def lowered(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose nets are in bfloat16, emulated where the processor lacks it."""
    if compiled._compiler() is None:
        pytest.skip("no C++ compiler, or none of Python's headers")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project.set("training.precision", "bfloat16")
    project.train("teacher/1")
    return project


def gradients(run: Run, project: Project, precision: str, long: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Of the first iteration, in one row; a training of `long` iterations counts as long."""
    monkeypatch.setattr(compiled, "LONG", long)
    training = run.spec.training.model_copy(update={"precision": precision})
    spec, folder = run.spec.model_copy(update={"training": training}), project.folder / f"{precision} {long}" / run.id
    session = Session(replace(run, spec=spec, folder=RunFolder(folder)), images_of(run), None)
    assert (session.attempts[-1].compiler is not None) == (precision == "bfloat16" and long == 1)
    (step,) = steps_of([session.member])
    step.load()
    step.iterate()
    return torch.cat([parameter.grad.flatten() for parameter in session.member.optimizer.parameters])


@pytest.mark.parametrize("reference", ["fitnet/1", "student/1"])
def test_compiled_nets_are_as_near_to_float32_as_others(
    lowered: Project, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    run = lowered.plan().net(reference)
    for stage in [run.start, run] if run.start else [run]:
        exact = gradients(stage, lowered, "float32", 1, monkeypatch)
        distances = [
            (gradients(stage, lowered, "bfloat16", long, monkeypatch) - exact).norm() / exact.norm()
            for long in (1, 10**9)
        ]
        assert 0 < distances[0] < 1.2 * distances[1] < 0.2
        loop.train([stage], torch.device("cpu"), 1000)  # for the last stage, and compiled no more


def test_alone_and_side_by_side_and_resumed_they_end_with_the_same_bits(
    lowered: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LONG", 1)
    lowered.set("rows.student.stage1_shared", False)
    lowered.set("rows.student.stage1.shuffle", "channel")
    lowered.set("networks.wide", {**lowered.content["networks"]["net"], "width": 6})
    lowered.set("rows.wide", {**lowered.content["rows"]["teacher"], "network": "wide"})
    plan = lowered.plan()
    runs = [*(net.start for net in plan.nets("student")), plan.net("wide/1")]
    loop.train(runs, torch.device("cpu"), 1000)
    together = [run.folder.read_manifest().weights_sha256 for run in runs]
    for run in runs:
        run.folder.manifest.unlink()
        run.folder.checkpoint.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            die_at(5, patch)
            with pytest.raises(KeyboardInterrupt):
                loop.train([run], torch.device("cpu"), 1000)
        torch._dynamo.reset()  # as in a process of its own
        loop.train([run], torch.device("cpu"), 1000)
        attempts = run.folder.read_manifest().attempts
        assert [attempt.from_iteration for attempt in attempts] == [0, 5]
        assert None not in [attempt.compiler for attempt in attempts]
    assert [run.folder.read_manifest().weights_sha256 for run in runs] == together


def test_a_net_that_cannot_be_compiled_is_told_at_its_first_iteration(
    lowered: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LONG", 1)
    part = CifarResNet.part

    def printed(self: CifarResNet, name: str, x: Tensor) -> dict[str, Tensor]:
        print(x.mean().item())
        return part(self, name, x)

    monkeypatch.setattr(CifarResNet, "part", printed)
    torch._dynamo.reset()  # what was compiled in this process is of the net as it was
    with pytest.raises(
        UserError, match=r"resnet8: torch.compile cannot compile this net: .* Set TORCH_COMPILE_DISABLE=1"
    ):
        lowered.train("teacher/2")


@pytest.mark.parametrize("variable", ["CXX=no-such-compiler", "TORCH_COMPILE_DISABLE=1"])
def test_without_a_compiler_nets_are_trained_as_they_are(variable: str) -> None:
    command = "from fspkd.engine import compiled; print(compiled._compiler())"
    found = subprocess.run(["env", variable, sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert found.stdout == "None\n"
