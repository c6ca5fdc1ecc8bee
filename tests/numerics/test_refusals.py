"""What is not trained, or not to its end, and what users are told."""

import shutil
from collections.abc import Callable

import pytest
import torch
from conftest import Project, images_of

from fspkd import provenance
from fspkd.data.packed import PackedData, load_data
from fspkd.data.sets import DataSet
from fspkd.engine import start
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.runs.spec import Run
from fspkd.train import loop, session
from fspkd.train.nets import check_method, initial_net


def test_runs_on_different_data_are_not_trained_together(project: Project) -> None:
    project.set("data.others", {**project.content["data"]["images"], "validation": 100})
    project.set("rows.other", {**project.content["rows"]["teacher"], "data": "others"})
    project.pack()
    runs = [project.plan().net(f"{row}/1") for row in ("teacher", "other")]
    with pytest.raises(UserError, match=r"are trained on different data"):
        loop.train(runs, torch.device("cpu"), 1000)


@pytest.mark.parametrize("written", ["\nx = 1\n", "\ndef unfinished(:\n"])
def test_code_that_is_edited_while_a_job_is_about_to_start_trains_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    """It would be recorded for a net that was trained by what had been imported before."""
    no_caches = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(provenance.PACKAGE, project.folder / "package" / "fspkd", ignore=no_caches)
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def edited(data: DataSet) -> PackedData:
        with (package / "models" / "cifar_resnet.py").open("a") as file:
            file.write(written)
        return load_data(data)

    monkeypatch.setattr(loop, "load_data", edited)
    with pytest.raises(UserError, match=r"teacher-1-\w+: the code that trains this run was edited while"):
        project.train("teacher/1")
    assert not project.plan().net("teacher/1").folder.is_finished


def test_architectures_and_methods_that_nothing_trains_or_seeds_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a lab may be: a module that is named after no part, and weights and dropout that PyTorch draws."""
    run = project.plan().net("teacher/1")
    images = images_of(run)

    def built_with(change: Callable[[torch.nn.Module], object]) -> None:
        def changed(*args: object) -> torch.nn.Module:
            net = build(*args)
            change(net)
            return net

        monkeypatch.setattr(start, "build", changed)

    built_with(lambda net: net.add_module("norm", torch.nn.BatchNorm2d(4)))
    with pytest.raises(
        UserError, match=r"'cifar_resnet': nothing would train norm.weight, norm.bias: .*stem, section1"
    ):
        initial_net(run, images)
    built_with(lambda net: net.stem[1].reset_parameters())
    with pytest.raises(UserError, match=r"'cifar_resnet': stem.1.weight would begin with other values each time"):
        initial_net(run, images)
    built_with(lambda net: setattr(net.section1[0].conv2, "weight", net.section1[0].conv1.weight))
    with pytest.raises(UserError, match=r"'cifar_resnet': section1.0.conv1.weight and section1.0.conv2.weight are one"):
        initial_net(run, images)
    built_with(lambda net: net.stem.append(torch.nn.Dropout(0.1)))
    with pytest.raises(UserError, match=rf"{run.id}: PyTorch's own generator was asked for random numbers"):
        loop.train([run], torch.device("cpu"), 1000)
    assert not run.folder.manifest.exists()
    built_with(lambda net: None)
    net = initial_net(run, images)
    check_method(run, net, None)
    method = type(run.spec.method)
    monkeypatch.setattr(method, "modules", lambda *given: {"head": torch.nn.Linear(4, 4)})
    with pytest.raises(UserError, match=r"'cross_entropy': head.weight, head.bias would begin with other values each"):
        check_method(run, net, None)
    shared = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
    shared[1].bias = shared[0].bias
    monkeypatch.setattr(method, "modules", lambda *given: {"heads": shared})
    with pytest.raises(
        UserError, match=r"'cross_entropy': method.heads.0.bias and method.heads.1.bias are one parameter"
    ):
        check_method(run, net, None)
    best = torch.nn.Module()
    best.register_buffer("loss", torch.tensor([float("nan"), 0]))
    monkeypatch.setattr(method, "modules", lambda *given: {"best": best})
    check_method(run, net, None)


def test_one_that_diverges_does_not_stop_the_others(project: Project) -> None:
    project.set("rows.student.stage1_shared", False)
    project.train("teacher/1")
    plan = project.plan()
    bad, good = (net.start for net in plan.rows["student"])
    alone = plan.net("teacher/2")
    state = initial_net(bad, images_of(bad)).state_dict()
    broken = {**state, "stem.1.weight": state["stem.1.weight"] * float("nan")}
    with pytest.MonkeyPatch.context() as patch:

        def broken_net(run: Run, images: Images) -> torch.nn.Module:
            net = initial_net(run, images)
            if run is bad:
                net.load_state_dict(broken)
            return net

        patch.setattr(session, "initial_net", broken_net)
        with pytest.raises(UserError, match=r"student-1-stage1.*iteration 1: the loss is nan"):
            loop.train([bad, good, alone], torch.device("cpu"), 1000)
    assert not bad.folder.manifest.exists()
    together = good.folder.read_manifest().weights_sha256
    assert alone.folder.read_manifest().iterations == 20
    shutil.rmtree(good.folder)
    loop.train([good], torch.device("cpu"), 1000)
    assert good.folder.read_manifest().weights_sha256 == together


def test_loss_that_is_not_finite_names_run_step_and_setting(project: Project) -> None:
    project.set("rows.student.stage1.reduction", "sum")
    project.set("schedules.first", [{"until": 40, "rate": 1e6}])
    with pytest.raises(
        UserError, match=r"student-stage1-\w+: iteration \d+: the .* is (nan|inf).*reduction = 'sum'.*1e\+06"
    ):
        project.train("student/1")
    run = project.plan().net("student/1").start
    assert not run.folder.weights.exists()
