"""What was sent to MLflow, read with its own client."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import Project
from mlflow import MlflowClient
from mlflow.entities import Run

from fspkd.data.packed import load_packed
from fspkd.runs.journal import read_journal
from fspkd.tracking.follow import Sender
from fspkd.tracking.sync import MEASURED, Sync


def send(project: Project) -> Sync:
    """Send everything, as a process that has sent nothing before."""
    sync = Sync(project.plan())
    assert sync.send_all() == []
    return sync


def send_as_another_process(_: int) -> bool:
    return Sender([Path("results/tiny")]).send()


def local(project: Project) -> str:
    return f"sqlite:///{project.folder}/mlflow.db"


def held(client: MlflowClient) -> dict[str, Run]:
    """The tracked runs by name, each once."""
    experiment = client.get_experiment_by_name("fspkd-tiny")
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}


def points(client: MlflowClient, run: Run, key: str) -> list[tuple[int, float]]:
    """All steps and values of a metric."""
    return sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, key))


def expected(file: Path, key: str) -> list[tuple[int, float]]:
    frame = pd.read_csv(file)
    frame = frame.dropna(subset=key) if key in frame else frame[:0].assign(**{key: 0.0})
    return list(zip(frame["iteration"], frame[key], strict=True))


def check_points(project: Project, client: MlflowClient) -> None:
    """Every point of every finished run is in the store, exactly once."""
    runs = {run.data.tags["identity"]: run for run in held(client).values()}
    finished = [run for run in project.plan().runs.values() if run.folder.manifest.exists()]
    assert finished
    for run in finished:
        tracked = runs[run.id]
        assert tracked.info.status == "FINISHED"
        for key in MEASURED:
            assert points(client, tracked, key) == expected(run.folder.metrics, key)


def check_everything(project: Project, client: MlflowClient) -> None:
    plan = project.plan()
    runs = held(client)
    assert set(runs) == {
        "Teacher", "Teacher, net 1", "Teacher, net 2",
        "FitNet, 1 loss*", "FitNet, 1 loss*, stage 1", "FitNet, 1 loss*, net 1",
        "Student*", "Student*, stage 1", "Student*, net 1", "Student*, net 2",
        "table1",
    }  # fmt: skip
    assert all(run.info.status == "FINISHED" for run in runs.values())
    check_points(project, client)
    for reference, name in (("student/2", "Student*, net 2"), ("fitnet/1", "FitNet, 1 loss*, net 1")):
        net, run = runs[name], plan.net(reference)
        row = runs[name.split(", net")[0]]
        first = runs[f"{row.info.run_name}, stage 1"]
        assert net.data.tags["mlflow.parentRunId"] == row.info.run_id
        assert first.data.tags["mlflow.parentRunId"] == row.info.run_id
        assert f"runs/{first.info.run_id})" in net.data.tags["mlflow.note.content"]
        tags = {"preset": "tiny", "table": "table1", "row": row.info.run_name, "net": str(run.spec.number), "seed": "1"}
        assert tags.items() <= net.data.tags.items()
        assert {"host", "weights_sha256"} <= net.data.tags.keys()
        assert net.data.tags.get("git_commit") == run.folder.read_manifest().attempts[-1].git_commit
        assert net.data.params["network.depth"] == "8"
        assert net.data.params["method.method"] == run.spec.method.method
        assert {"manifest.json", "run.yaml", "metrics.csv"} <= {a.path for a in client.list_artifacts(net.info.run_id)}
        (data,) = net.inputs.dataset_inputs
        packed = load_packed(run.data.path)
        assert (data.dataset.name, data.dataset.digest) == ("digits", packed.sha256[:36])
        assert "system/cpu_utilization_percentage" in net.data.metrics
        assert len(net.outputs.model_outputs) == 1
        journal = read_journal(run.folder)
        assert (net.info.start_time, net.info.end_time) == (journal.started, journal.ended)
    two = [dict(expected(run.folder.metrics, "test_accuracy")) for run in plan.rows["student"]]
    mean = [(step, (two[0][step] + two[1][step]) / 2) for step in two[0]]
    assert points(client, runs["Student*"], "test_accuracy") == [(s, pytest.approx(v)) for s, v in mean]
    table = pd.read_csv("results/tiny/table1.csv").set_index("row").loc["Student*"]
    for key in ("average", "ensemble", "average_published"):
        assert points(client, runs["Student*"], key) == [(0, table[key])]
    assert not [key for key in runs["Student*"].data.metrics if key.startswith("net")]  # nets have runs of their own
    artifacts = {a.path for a in client.list_artifacts(runs["table1"].info.run_id)}
    assert artifacts == {
        "table1.csv",
        "table1.md",
        "table1.html",
        "table1.tex",
        "figure3.png",
        "figure3.svg",
        "figure3.csv",
        "figure3_flat.csv",
    }
    copy = Path(client.download_artifacts(runs["table1"].info.run_id, "table1.csv"))
    assert copy.read_bytes() == Path("results/tiny/table1.csv").read_bytes()
    fsp = client.search_runs(
        [runs["table1"].info.experiment_id],
        "tags.kind = 'net' AND tags.table = 'table1' AND tags.stage1 = 'fsp'",
        order_by=["metrics.test_accuracy DESC"],
    )
    assert sorted(run.info.run_name for run in fsp) == ["Student*, net 1", "Student*, net 2"]
    models = client.search_logged_models([runs["table1"].info.experiment_id])
    assert len(models) == 5
