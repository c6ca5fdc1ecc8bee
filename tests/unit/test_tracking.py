"""MLflow, on a real store and a real server."""

import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, Project
from mlflow import MlflowClient

from fspkd.live import SECONDS_BETWEEN_SENDINGS
from fspkd.plan import Plan
from fspkd.presets import load_preset
from fspkd.tables import make_table
from fspkd.tracking import Tracker, attempt


def send_one(reference: str) -> None:
    plan = Plan(load_preset(Path("config/tiny.yaml")), {})
    Tracker(plan).send_run(plan.net(reference))


def held(client: MlflowClient) -> dict[str, object]:
    """The tracked runs by name."""
    experiment = client.get_experiment_by_name("fspkd-tiny")
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def points(client: MlflowClient, run: object, key: str) -> list[tuple[int, float]]:
    return sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))


def expected(folder: Path, key: str) -> list[tuple[int, float]]:
    frame = pd.read_csv(folder / "metrics.csv").dropna(subset=key)
    return list(zip(frame["iteration"], frame[key], strict=True))


def test_eight_processes_on_a_fresh_store(project: Project) -> None:
    project.set("rows.teacher.nets", 8)
    project.train(*(f"teacher/{i}" for i in range(1, 9)))
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        pool.map(send_one, [f"teacher/{i}" for i in range(1, 9)])
    runs = held(MlflowClient(f"sqlite:///{project.folder}/mlflow.db"))
    assert set(runs) == {"Teacher", *(f"Teacher, net {i}" for i in range(1, 9))}


def check_everything(project: Project, client: MlflowClient) -> None:
    plan = project.plan()
    runs = held(client)
    assert set(runs) == {
        "Teacher", "Teacher, net 1", "Teacher, net 2",
        "FitNet, 1 loss*", "FitNet, 1 loss*, stage 1", "FitNet, 1 loss*, net 1",
        "Student*", "Student*, stage 1", "Student*, net 1", "Student*, net 2",
        "data set digits", "table1",
    }  # fmt: skip
    assert all(run.info.status == "FINISHED" for run in runs.values())
    for reference, name in (("student/2", "Student*, net 2"), ("fitnet/1", "FitNet, 1 loss*, net 1")):
        net, run = runs[name], plan.net(reference)
        for key in ("loss", "test_accuracy"):
            assert points(client, net, key) == expected(run.folder, key)
        row = runs[name.split(", net")[0]]
        assert net.data.tags["mlflow.parentRunId"] == row.info.run_id
        tags = {"preset": "tiny", "table": "table1", "row": row.info.run_name, "net": str(run.net), "seed": "1"}
        assert tags.items() <= net.data.tags.items()
        assert {"git_commit", "host", "weights_sha256"} <= net.data.tags.keys()
        assert net.data.params["network.depth"] == "8"
        assert net.data.params["method.method"] == run.spec.method.method
        assert {"manifest.json", "run.yaml"} <= {f.path for f in client.list_artifacts(net.info.run_id)}
    two = [dict(expected(run.folder, "test_accuracy")) for run in plan.rows["student"]]
    mean = [(step, (two[0][step] + two[1][step]) / 2) for step in two[0]]
    assert points(client, runs["Student*"], "test_accuracy") == [(s, pytest.approx(v)) for s, v in mean]
    assert {"average", "ensemble", "iterations"} <= runs["Student*"].data.metrics.keys()
    artifacts = client.list_artifacts(runs["table1"].info.run_id)
    assert [f.path for f in artifacts] == ["table1.csv"]
    assert Path(client.download_artifacts(runs["table1"].info.run_id, "table1.csv")).read_text() == "a table\n"


@pytest.mark.parametrize("where", ["local store", "server"])
def test_table_sends_everything_and_nothing_twice(
    project: Project, where: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    project.train("teacher/2", "fitnet/1", "student/1", "student/2")
    address = f"sqlite:///{project.folder}/mlflow.db"
    if where == "server":
        address = request.getfixturevalue("server")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    plan = project.plan()
    file = project.folder / "table1.csv"
    file.write_text("a table\n")
    for _ in range(2):
        Tracker(plan).send_table("table1", make_table(plan, "table1"), [file])
        check_everything(project, MlflowClient(address))


def test_net_trained_again_to_other_weights_gets_a_run_of_its_own(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    tracker = Tracker(project.plan())
    tracker.send_run(run)
    before = held(tracker.client)["Teacher, net 1"]
    tracker.send_run(run)
    assert held(tracker.client)["Teacher, net 1"].info.run_id == before.info.run_id
    manifest = json.loads((run.folder / "manifest.json").read_text())
    (run.folder / "manifest.json").write_text(json.dumps({**manifest, "weights_sha256": "others"}))
    tracker.send_run(run)
    current = tracker.client.search_runs([tracker.experiment], f"tags.`fspkd.id` = '{run.id}'")
    assert [tracked.data.tags["weights_sha256"] for tracked in current] == ["others"]
    assert tracker.client.get_run(before.info.run_id).data.tags["fspkd.id"] == f"{run.id}, replaced"


def test_growing_metrics_are_sent_row_by_row_without_a_half_line(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    whole = (run.folder / "metrics.csv").read_bytes()
    finished = {f: (run.folder / f).read_bytes() for f in ("manifest.json", "metrics.csv")}
    for f in finished:
        (run.folder / f).unlink()
    tracker = Tracker(project.plan())
    for end in (200, 400, 401, len(whole) - 3):
        (run.folder / "metrics.partial.csv").write_bytes(whole[:end])
        tracker.send_run(run, training=True)
        tracked = held(tracker.client)["Teacher, net 1"]
        assert len(points(tracker.client, tracked, "loss")) == whole[:end].count(b"\n") - 1
        assert tracked.info.status == "RUNNING"
    for f, content in finished.items():
        (run.folder / f).write_bytes(content)
    tracker.send_run(run)
    tracked = held(tracker.client)["Teacher, net 1"]
    assert points(tracker.client, tracked, "loss") == expected(run.folder, "loss")
    assert tracked.info.status == "FINISHED"


def test_store_that_is_not_there_harms_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    started = time.monotonic()
    attempt(lambda: Tracker(project.plan()))
    assert time.monotonic() - started < 30
    assert "tracking: not sent" in capsys.readouterr().err


def test_training_that_lasts_is_followed_and_its_kill_is_seen(project: Project) -> None:
    project.set("schedules.long", [{"until": 100_000, "rate": 0.01}])
    run = project.plan().net("teacher/1")
    shutil.copytree(REPOSITORY / "scripts", project.folder / "scripts")
    process = subprocess.Popen([sys.executable, "scripts/train.py", run.folder], start_new_session=True)
    try:
        client = None
        for _ in range(4 * SECONDS_BETWEEN_SENDINGS):
            time.sleep(1)
            assert process.poll() is None
            if Path("mlflow.db").exists():
                client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
                if client.get_experiment_by_name("fspkd-tiny") and "Teacher, net 1" in held(client):
                    break
    finally:
        process.kill()  # the follower sees its standard input closed
        process.wait()
    for _ in range(60):
        time.sleep(1)
        tracked = held(client)["Teacher, net 1"]
        if tracked.info.status == "KILLED":
            break
    assert tracked.info.status == "KILLED"
    rows = pd.read_csv(run.folder / "metrics.partial.csv")
    assert 0 < len(points(client, tracked, "loss")) <= len(rows)
