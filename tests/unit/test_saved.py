"""Finished runs, read from a results folder that was copied elsewhere, without presets and packed data."""

import shutil
import warnings
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import REPOSITORY, Project
from finished import finish
from shortages import no_more_files

import fspkd
from fspkd.data.packed import load_packed
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans
from fspkd.runs.folder import RunFolder
from fspkd.runs.predictions import load_predictions


@pytest.fixture
def results(tiny_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "fspkd.results":
    shutil.copytree(tiny_results, tmp_path / "copied")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return fspkd.results("../copied/tiny")


def test_runs_and_what_they_measured(results: "fspkd.results") -> None:
    runs = results.runs
    assert sorted(runs["row"]) == ["fitnet", "fitnet", "student", "student", "student", "teacher", "teacher"]
    assert (runs["preset"] == "tiny").all()
    student = results.run("student/2")
    assert results.run(student.id).spec == student.spec
    assert list(student.metrics.index) == list(range(1, 9))
    assert student.metrics["test_accuracy"].iloc[-1] == pytest.approx(runs["test_accuracy"][student.id], abs=1e-4)
    table = results.table("table1")
    assert table["net2"]["Student*"] == pytest.approx(runs["test_accuracy"][student.id], abs=0.005)


def test_a_net_predicts_what_the_run_did(results: "fspkd.results", packed_digits: Path) -> None:
    student = results.run("student/1")
    images = torch.from_numpy(load_packed(packed_digits).images["test"]).permute(0, 3, 1, 2) / 255
    net = student.net()
    assert not net.training
    with torch.no_grad():
        logits = net(images)
        taps = net.taps(images[:2], ("stem", "section1"))
    wanted, labels = student.predictions
    torch.testing.assert_close(logits, torch.from_numpy(wanted), rtol=1e-4, atol=1e-4)
    assert 100 * (wanted.argmax(1) == labels).mean() == pytest.approx(student.manifest.test_accuracy, abs=1e-3)
    assert fspkd.fsp_matrix(*taps.values()).shape == (2, 4, 4)


def test_ensembles_by_hand_are_the_tables(results: "fspkd.results") -> None:
    predictions = [results.run(f"teacher/{number}").predictions for number in (1, 2)]
    mean = sum(torch.from_numpy(logits).softmax(1) for logits, _ in predictions) / 2
    accuracy = 100 * (mean.argmax(1).numpy() == predictions[0][1]).mean()
    assert results.table("table1")["ensemble"]["Teacher"] == pytest.approx(accuracy, abs=0.005)


def test_a_run_of_another_version_is_left_out(results: "fspkd.results") -> None:
    """It does not keep others from being read."""
    student, teacher = results.run("student/1"), results.run("teacher/1")
    with student.folder.specification.open("a") as file:
        file.write("of_another_version: true\n")
    again = fspkd.results("../copied/tiny")
    with pytest.warns(UserWarning, match=r"student-1-\w+/run.yaml: cannot be read .* left out"):
        assert sorted(again.runs.index) == sorted(set(results.runs.index) - {student.id})
    assert again.run(teacher.id).metrics.equals(teacher.metrics)


def test_nothing_finished_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs" / "teachers" / "teacher-1-0").mkdir(parents=True)
    with pytest.raises(UserError, match="runs: no run in it is finished yet"):
        _ = fspkd.results(tmp_path).runs


def test_exported_runs_are_read() -> None:
    exported = fspkd.results(REPOSITORY / "reproduction/tenth_no_flips")
    run = exported.run("teacher/1")
    logits, labels = run.predictions
    assert 100 * (logits.argmax(1) == labels).mean() == pytest.approx(run.manifest.test_accuracy, abs=0.005)
    assert len(run.metrics) == run.manifest.iterations
    with pytest.raises(UserError, match=r"teacher-1-\w+: was exported without its weights"):
        run.net()


@pytest.fixture
def two_plans(project: Project, monkeypatch: pytest.MonkeyPatch) -> dict[str, Plan]:
    """Plans whose nets, except student's, count as finished and share results/runs; the working directory is docs/.

    They share the teachers of the first replicate; `more` has a second replicate and other FitNets.
    """
    project.set("claims", ...)
    first = [{"until": 6, "rate": 0.002}]
    more = {"extends": "tiny", "results": "results/more", "replicates": 2, "schedules": {"first": first}}
    (project.folder / "config/more.yaml").write_text(yaml.safe_dump(more))
    plans, _ = load_plans()
    for plan in plans.values():
        for run in plan.runs.values():
            if run.spec.row != "student" and not run.folder.is_finished:
                run.folder.path.mkdir(parents=True, exist_ok=True)
                run.folder.specification.write_text(yaml.safe_dump(run.spec.model_dump(mode="json")))
                finish(run)
    (project.folder / "docs").mkdir()
    monkeypatch.chdir(project.folder / "docs")
    return plans


def test_runs_are_those_of_the_preset_though_others_lie_beside_them(two_plans: dict[str, Plan]) -> None:
    everything = fspkd.results("../results/runs")
    assert everything.run("teacher/1").id == two_plans["results/tiny"].net("teacher/1").id
    for folder, plan in two_plans.items():
        results = fspkd.results(f"../{folder}")
        assert set(results.runs.index) == {run.id for run in plan.runs.values() if run.spec.row != "student"}
        assert len(results.runs) < len(everything.runs)
        for replicate in range(1, plan.preset.replicates + 1):
            for net in ("teacher/2", "fitnet/1"):
                assert results.run(net, replicate).id == plan.net(net, replicate).id
    other = two_plans["results/more"].net("fitnet/1").id
    assert fspkd.results("../results/tiny").run(other).id == other  # an id is enough


def test_of_several_runs_the_settings_tell_which_is_which(two_plans: dict[str, Plan]) -> None:
    everything = fspkd.results("../results/runs")
    with pytest.raises(
        UserError, match=r"'fitnet/1', replicate 1: there are several in .*: fitnet-1-\w+, fitnet-1-\w+\."
    ):
        everything.run("fitnet/1")
    nets = [plan.net("fitnet/1") for plan in two_plans.values()]
    assert set(everything.differences(*(net.id for net in nets))) == {"start"}
    assert {"start", "teacher", "method.temperature"} <= set(everything.differences(nets[0].id, nets[0].teacher.id))
    firsts = everything.differences(*(net.stage1.id for net in nets))
    assert set(firsts) == {"schedule"}
    assert [phase["rate"] for phases in firsts["schedule"] for phase in phases] == [1e-3, 1e-4, 2e-3]
    assert {"network.depth", "seed"}.isdisjoint(everything.differences())  # the same in all


def test_runs_that_a_preset_lacks_are_told_with_where_others_are(two_plans: dict[str, Plan]) -> None:
    tiny, more = (fspkd.results(f"../results/{name}") for name in ("tiny", "more"))
    others = r"fspkd\.results\('\S+/results/runs'\) has those of all presets"
    for ask, message in (
        (lambda: tiny.run("student/1"), f"'student/1': no such run of preset 'tiny' in .*{others}"),
        (
            lambda: tiny.run("fitnet/1", 2),
            f"'fitnet/1', replicate 2: no such run .*; existing replicates: 1. {others}",
        ),
    ):
        with pytest.raises(UserError, match=message):
            ask()
    assert more.run("fitnet/1", 2).spec.replicate == 2
    preset = Path("../config/tiny.yaml")
    preset.write_text(preset.read_text().replace("seed: 1", "seed: 2"))
    for run in two_plans["results/tiny"].rows["teacher"]:
        folder = RunFolder(Path("..") / run.folder.path)
        manifest = folder.read_manifest()
        attempt = manifest.attempts[0].model_copy(update={"preset": "tiny"})
        folder.write_manifest(manifest.model_copy(update={"attempts": (attempt,)}))
    with (
        pytest.warns(UserWarning, match=f"2 finished runs were trained for preset 'tiny' with other .*{others}"),
        pytest.raises(UserError, match=f"no run of preset 'tiny' in it is finished yet. {others}"),
    ):
        _ = fspkd.results("../results/tiny").runs


def test_a_table_of_former_settings_gives_a_warning(two_plans: dict[str, Plan]) -> None:
    table = Path("../results/tiny/table1.csv")
    table.parent.mkdir(exist_ok=True)
    table.write_text("row,average\nTeacher,90\n")
    with chdir(".."):
        for run in two_plans["results/tiny"].runs.values():
            if run.spec.row == "student":
                run.folder.path.mkdir(parents=True, exist_ok=True)
                finish(run)
    with warnings.catch_warnings(action="error"):
        assert fspkd.results("../results/tiny").table("table1")["average"]["Teacher"] == 90
    preset = Path("../config/tiny.yaml")
    preset.write_text(preset.read_text().replace("seed: 1", "seed: 2"))
    with pytest.warns(UserWarning, match=r"table1.csv: was made for other nets than the preset has now, .*teacher-1-"):
        fspkd.results("../results/tiny").table("table1")


@pytest.mark.parametrize("broken", [True, False])
def test_where_no_valid_preset_is_all_runs_are_shown(two_plans: dict[str, Plan], broken: bool) -> None:
    preset = Path("../config/more.yaml")
    preset.write_text("results: results/more\nseed: one\n") if broken else preset.unlink()
    results = fspkd.results("../results/more")
    if broken:
        with pytest.warns(UserWarning, match=r"config/more.yaml: .*seed = 'one'.* runs of all presets are shown"):
            _ = results.runs
    assert set(results.runs.index) == set(fspkd.results("../results/runs").runs.index)


def test_what_is_not_there_is_told(results: "fspkd.results", tmp_path: Path) -> None:
    for ask, message in (
        (lambda: results.run("student/3"), r"'student/3': no such run in .*; did you mean 'student/\d'"),
        (lambda: results.table("table2"), "table2.csv: no such table; did you mean 'table1'"),
        (lambda: fspkd.results(tmp_path / "nowhere"), "nowhere: has no runs/ folder in it or above it"),
    ):
        with pytest.raises(UserError, match=message):
            ask()
    run = results.run("student/1")
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        load_predictions(run.folder.predictions)
    run.folder.predictions.write_bytes(results.run("student/2").folder.predictions.read_bytes())
    with pytest.raises(UserError, match=r"predictions.npz: is missing, or does not match manifest.json beside it"):
        _ = run.predictions
    with pytest.raises(UserError, match="is a first stage, which has no predictions"):
        _ = results.run(results.run("student/1").spec.start).predictions
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = fspkd.no_such_thing
    assert isinstance(results.runs, pd.DataFrame)
    assert fspkd.__version__
