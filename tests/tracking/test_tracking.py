"""MLflow, on real stores and servers, some of which fail."""

import math
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import REPOSITORY, Project
from forks import FORKS, IMPORTED
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter
from servers import Server

from fspkd.data.packed import load_packed
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.networks import AnyNetwork
from fspkd.plan import plan_for
from fspkd.report import curves
from fspkd.runs.folder import RUNS, RunFolder
from fspkd.runs.journal import Journal, final_measurements, read_journal, usage
from fspkd.tracking.follow import FOLLOWED, Sender, has_begun, tell
from fspkd.tracking.sync import MEASURED, Sync
from fspkd.train.usage import append, sample


@pytest.fixture(autouse=True)
def store(tmp_path: Path, empty_store: Path) -> Path:
    """The local store, before any run is in it."""
    return Path(shutil.copy(empty_store, tmp_path))


def send(project: Project) -> Sync:
    """Send everything, as a process that knows nothing of before."""
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
    """The steps and values of a metric, all that there are."""
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
        assert {"git_commit", "host", "weights_sha256"} <= net.data.tags.keys()
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
    artifacts = {a.path for a in client.list_artifacts(runs["table1"].info.run_id)}
    assert artifacts == {
        "table1.csv",
        "table1.md",
        "table1.html",
        "table1.tex",
        "figure3.png",
        "figure3.svg",
        "figure3.csv",
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


@pytest.mark.parametrize("where", ["local store", "server"])
def test_everything_is_sent_and_nothing_twice(
    made: Project, where: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    address = local(made)
    if where == "server":
        address = request.getfixturevalue("server").address
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for _ in range(2):
        send(made)
        check_everything(made, MlflowClient(address))


def test_a_row_of_one_net_has_an_average_and_no_experiment_is_empty(made: Project) -> None:
    """Of a table of errors: so all rows have the column that readers sort by."""
    made.set("claims", ...)
    made.set("tables", {"table1": {"title": "One net", "measure": "error", "rows": {"FitNet": "fitnet"}}})
    send(made)
    client = MlflowClient(local(made))
    assert [experiment.name for experiment in client.search_experiments()] == ["fspkd-tiny"]
    row = held(client)["FitNet"].data.metrics
    assert (
        row["average"]
        == row["error"]
        == round(100 - made.plan().net("fitnet/1").folder.read_manifest().test_accuracy, 2)
    )


def test_eight_processes_at_once_where_no_store_is(made: Project, store: Path) -> None:
    store.unlink()
    # Once, and not in each of the eight; later tests of this process have what they need too.
    FORKS.set_forkserver_preload([*IMPORTED, "fspkd.tracking.sync", "torch.export"])
    with FORKS.Pool(8) as pool:
        assert all(pool.map(send_as_another_process, range(8), chunksize=1))
    check_everything(made, MlflowClient(local(made)))


def test_run_folders_alone_serve_on_another_machine(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree("results/runs", elsewhere / "results" / "runs")
    shutil.copytree("config", elsewhere / "config")
    monkeypatch.chdir(elsewhere)
    send(made)
    client = MlflowClient(f"sqlite:///{elsewhere}/mlflow.db")
    check_points(made, client)
    assert {"average", "ensemble"} <= held(client)["Student*"].data.metrics.keys()


OTHERS = {  # nets that drop something in training, and the shapes of their images
    "maxout": (
        {
            "architecture": "maxout",
            "layers": [{"conv": 4, "kernel": 3, "pieces": 3, "pool": 3, "stride": 2}, {"full": 5}],
            "init": "unit",
            "keep": {"image": 0.8, "hidden": 0.5},
        },
        (1, 8, 8),
    ),
    "squeezenet": ({"architecture": "torchvision", "model": "squeezenet1_1"}, (1, 32, 32)),
}


def test_models_need_pytorch_alone_and_predict_what_their_nets_do(made: Project) -> None:
    sync = send(made)
    run = made.plan().net("student/2")
    tracked = held(sync.store.client)["Student*, net 2"]
    (output,) = tracked.outputs.model_outputs
    model = sync.store.client.get_logged_model(output.model_id)
    assert {metric.key for metric in model.metrics} == {"test_accuracy", "test_loss"}
    images = load_packed(run.data.path).images["test"].transpose(0, 3, 1, 2) / np.float32(255)
    with np.load(run.folder.predictions) as file:
        models = {output.model_id: (images, file["logits"])}
    for name, (settings, shape) in OTHERS.items():
        net = build(TypeAdapter(AnyNetwork).validate_python(settings), shape, 10, torch.Generator().manual_seed(1))
        sync.store.open(name, name, {}, None, None)
        model_id = sync.store.model(name, net.train(), list(shape), list("abcdefghij"), 1)
        images = np.random.default_rng(1).random((5, *shape), np.float32)
        with torch.no_grad():
            models[model_id] = images, net.eval()(torch.from_numpy(images)).numpy()
    for model_id, (images, _) in models.items():
        np.save(f"{model_id}.npy", images)
    code = """
import sys, mlflow.pytorch, numpy, torch
sys.modules["fspkd"] = None
for model in sys.argv[1:]:
    net = mlflow.pytorch.load_model(f"models:/{model}")
    numpy.save(f"{model}.logits.npy", net(torch.from_numpy(numpy.load(f"{model}.npy"))).detach())
served = mlflow.pyfunc.load_model(f"models:/{sys.argv[1]}")
assert served.input_example.shape == (2, 1, 8, 8)
assert served.predict(served.input_example).shape == (2, 10)
"""
    loaded = made.run("python", "-c", code, *models, MLFLOW_TRACKING_URI=local(made))
    assert loaded.returncode == 0, loaded.stderr
    for model_id, (_, logits) in models.items():
        np.testing.assert_allclose(np.load(f"{model_id}.logits.npy"), logits, atol=1e-5)
        assert logits.std() > 0.01  # not all the same


def test_net_trained_anew_gets_a_run_of_its_own(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    before = held(send(project).store.client)["Teacher, net 1"]
    shutil.rmtree(run.folder)
    project.train("teacher/1")
    sync = send(project)
    identities = {
        r.info.run_id: r.data.tags["identity"] for r in sync.store.client.search_runs([sync.store.experiment])
    }
    assert identities.pop(before.info.run_id) == f"{run.id}, replaced"
    assert list(identities.values()).count(run.id) == 1


def test_nets_that_stopped_by_validation_have_that_curve_and_what_was_kept(project: Project) -> None:
    project.set("data.images.validation", 120)
    project.set("rows.teacher.stop", {"by": "validation", "patience": 4, "every": 2})
    project.pack()
    project.train("teacher/1", "teacher/2")
    sync = send(project)
    runs, client = held(sync.store.client), sync.store.client
    check_points(project, client)
    manifests = [net.folder.read_manifest() for net in project.plan().rows["teacher"]]
    assert len({manifest.iterations for manifest in manifests}) == 2
    for number, manifest in enumerate(manifests, 1):
        net = runs[f"Teacher, net {number}"]
        assert points(client, net, "validation_accuracy")[-1][0] == manifest.iterations
        assert points(client, net, "kept_test_accuracy") == [(manifest.best_iteration, manifest.test_accuracy)]
        assert net.data.tags["best_iteration"] == str(manifest.best_iteration)
        assert net.outputs.model_outputs[0].step == manifest.best_iteration
    longest = max(manifest.iterations for manifest in manifests)
    assert [step for step, _ in points(client, runs["Teacher"], "test_accuracy")] == list(range(5, longest + 1, 5))


def test_figure_of_rows_in_no_table_is_a_run_of_its_own_and_sent_again_when_it_is_made_again(made: Project) -> None:
    """Also where the store fails meanwhile. What is sent is not read again: it could be gone."""
    made.content |= {"claims": None, "timings": {}}
    made.content["figures"]["figure3"]["curves"] = {"Student": "student"}
    made.set("tables.table1.rows", {"Teacher": "teacher"})
    client = send(made).store.client
    assert "figure3" not in held(client)  # what is there was made of other rows
    curves.write(made.plan(), "figure3", Path("results/tiny/figure3.png"))
    figure = held(send(made).store.client)["figure3"]
    assert figure.data.tags.items() >= {"kind": "figure", "figure": "figure3"}.items()
    artifacts = {a.path for a in client.list_artifacts(figure.info.run_id)}
    assert artifacts == {"figure3.png", "figure3.svg", "figure3.csv"}

    sender = Sender([Path("results/tiny")])
    assert sender.send()
    for gone in ("config", "results/runs"):
        Path(gone).rename(f"{gone}.gone")
    assert sender.send()
    for gone in ("config", "results/runs"):
        Path(f"{gone}.gone").rename(gone)
    Path("results/tiny/figure3.svg").write_text("another")
    place = Path(figure.info.artifact_uri.removeprefix("file://"))
    place.rename("place")
    place.touch()
    (sync,) = sender.syncs.values()
    with pytest.raises(OSError, match=str(place)):
        sync.send_all()
    place.unlink()
    Path("place").rename(place)
    assert sync.send_all() == []
    assert (place / "figure3.svg").read_text() == "another"


def test_a_preset_that_shares_nets_is_sent_what_it_shows(made: Project) -> None:
    """And neither a table that nobody has made nor its nets."""
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    tables = {"table1": None, "mine": {"title": "Mine", "rows": {"Student*": "student"}}}
    child = {"extends": "tiny", "results": "results/child", "claims": None, "rows": {"short": row}, "tables": tables}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    assert not has_begun(plan_for(Path("results/child")))
    assert made.run("snakemake", "results/child/mine.csv", **{FOLLOWED: "1"}).returncode == 0
    sync = Sync(plan_for(Path("results/child")))
    assert sync.send_all() == []
    runs = sync.store.client.search_runs([sync.store.experiment])
    assert {run.info.run_name for run in runs} == {
        "Student*", "Student*, stage 1", "Student*, net 1", "Student*, net 2", "teacher", "teacher, net 1", "mine"
    }  # fmt: skip


def test_run_of_former_settings_is_sent(project: Project) -> None:
    project.train("student/1")
    send(project)
    project.set("training.optimizer.momentum", 0.8)
    runs = held(send(project).store.client)
    assert {"Student*, net 1, former settings", "Student*, stage 1, former settings"} <= set(runs)
    assert runs["Student*, net 1, former settings"].data.tags["stage1"] == "fsp"


def test_damaged_run_is_told_and_does_not_hold_up_the_others(project: Project) -> None:
    project.train("teacher/1", "teacher/2")
    damaged = project.plan().net("teacher/1").folder.manifest
    damaged.write_text("{")
    sync = Sync(project.plan())
    (problem,) = sync.send_all()
    assert str(damaged) in problem
    assert held(sync.store.client)["Teacher, net 2"].info.status == "FINISHED"


def test_only_what_a_checkpoint_holds_is_sent_and_a_resumed_run_goes_on(project: Project) -> None:
    project.set("schedules.long", [{"until": 20_000, "rate": 0.01}])
    run = project.plan().net("teacher/1")
    shutil.copytree(REPOSITORY / "scripts", project.folder / "scripts")
    command = ["python", "scripts/train.py", "results/tiny", run.id, "--checkpoint-seconds", "1"]
    times: dict[int, int] = {}
    client = None
    for _ in range(2):
        training = project.start(*command, environment={FOLLOWED: "1"})
        done = max(times, default=0)
        while not (journal := read_journal(run.folder)) or journal.saved <= done:
            assert training.poll() is None
            time.sleep(0.2)
        send(project)
        client = MlflowClient(local(project))
        assert held(client)["Teacher, net 1"].info.status == "RUNNING"
        training.kill()
        training.wait()
        send(project)
        tracked = held(client)["Teacher, net 1"]
        assert tracked.info.status == "KILLED"
        history = client.get_metric_history(tracked.info.run_id, "loss")
        saved = read_journal(run.folder).saved
        assert sorted(p.step for p in history) == list(range(1, saved + 1))
        assert saved < len(pd.read_csv(run.folder.growing_metrics)) + 1
        now = {p.step: p.timestamp for p in history}
        assert times.items() <= now.items()
        assert sorted(now.values()) == [now[step] for step in sorted(now)]
        times = now
    assert client.get_run(tracked.info.run_id).data.tags["host"] == os.uname().nodename


def test_diverged_run_is_seen_as_failed(project: Project) -> None:
    from fspkd.errors import UserError

    project.set("rows.student.stage1.weight", 1e30)
    with pytest.raises(UserError, match="diverged"):
        project.train("student/1")
    runs = held(send(project).store.client)
    assert runs["Student*, stage 1"].info.status == "FAILED"
    assert runs["Student*"].info.status == "SCHEDULED"


def test_journal_that_a_crashed_node_left_is_read_up_to_what_is_whole(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    whole = read_journal(run.folder)
    with run.folder.journal.open("ab") as file:
        file.write(b"\0" * 100 + b'\n{"time": 1, "iteration": 99}\n')
    left = read_journal(run.folder)
    assert (left.lines, left.bytes, left.is_damaged) == (whole.lines, whole.bytes, True)
    run.folder.journal.write_bytes(b"\0" * 100 + b"\n")
    assert read_journal(run.folder) is None


def test_finished_run_whose_journal_is_damaged_is_sent_with_the_times_of_its_manifest(project: Project) -> None:
    """It is told once, and the points are those of the metrics; its row is sent too."""
    project.set("rows.teacher.nets", 1)
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    content = run.folder.journal.read_bytes()
    run.folder.journal.write_bytes(content.replace(b'"iteration": 0', b'"iteration": 9'))
    table = Path("results/tiny/table1.csv")  # which shows it, though nothing tells for which preset it was trained
    table.parent.mkdir(parents=True)
    table.touch()
    sync = Sync(project.plan())
    assert sync.send_all() == [
        f"{run.folder.journal}: is gone or damaged: times of its points are reckoned by its manifest"
    ]
    assert sync.send_all() == []
    client = MlflowClient(local(project))
    check_points(project, client)
    row = held(client)["Teacher"]
    assert row.info.status == "FINISHED"
    assert points(client, row, "test_accuracy") == expected(run.folder.metrics, "test_accuracy")


def test_run_that_finishes_while_it_is_looked_at_is_sent_whole_and_once(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal is read before its last lines are written; then they and the manifest are there."""
    for phase in ("teachers", "students"):
        shutil.rmtree(RUNS / phase)
    first = made.plan().net("student/1").stage1.folder
    journal, manifest = first.journal.read_bytes(), first.manifest.read_bytes()
    first.journal.write_bytes(journal.splitlines(keepends=True)[0])
    first.manifest.unlink()

    def read_before_it_finishes(folder: RunFolder) -> Journal | None:
        read = read_journal(folder)
        if folder == first:
            folder.journal.write_bytes(journal)
            folder.manifest.write_bytes(manifest)
        return read

    sync = Sync(made.plan())
    with monkeypatch.context() as patch:
        patch.setattr("fspkd.runs.journal.read_journal", read_before_it_finishes)
        assert sync.send_all() == []
    assert sync.send_all() == []
    client = sync.store.client
    check_points(made, client)
    assert sum(run.data.tags["kind"] == "stage 1" for run in client.search_runs([sync.store.experiment])) == 2


def test_metrics_that_are_not_what_was_measured_are_not_sent(project: Project) -> None:
    """Of a run that was killed, by its journal; of a finished one, by its manifest."""
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    journal = read_journal(run.folder)
    for file in (run.folder.metrics, run.folder.growing_metrics):
        content = file.read_bytes()
        file.write_bytes(content.replace(b"\n5,", b"\n4,"))
        with pytest.raises(UserError, match=rf"{file.name}: is (gone, or )?not what"):
            final_measurements(run.folder, journal)
        file.write_bytes(content)
        assert len(final_measurements(run.folder, journal)) == 20
        run.folder.manifest.unlink(missing_ok=True)


def test_use_of_a_machine_without_and_then_of_one_with_a_gpu(tmp_path: Path) -> None:
    cpu = sample(torch.device("cpu"))
    folder = RunFolder(tmp_path)
    append([folder], cpu)
    append([folder], {**cpu, "gpu_0_power_usage_watts": 70.5})
    assert usage(folder)["gpu_0_power_usage_watts"].tolist() == pytest.approx([math.nan, 70.5], nan_ok=True)


# --- servers that fail ------------------------------------------------------------------------------------


def sync_script(project: Project, **environment: str) -> subprocess.CompletedProcess:
    return project.run("python", "scripts/sync_mlflow.py", "results/tiny", **environment)


def test_answers_that_get_lost_send_nothing_twice(
    made: Project, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes what it is sent, and now and then its answer never arrives."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.behind_proxy)
    sender = Sender([Path("results/tiny")])
    failed = 0
    server.lose_every(3)
    while not sender.send():
        failed += 1
        server.lose_every(server.lose + failed)  # so that each try gets further
    assert failed > 5
    check_everything(made, MlflowClient(server.address))


def test_nothing_there_is_told_in_a_line_and_with_exit_status_1(made: Project) -> None:
    result = sync_script(made, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "not everything was sent" in result.stderr
    assert "Traceback" not in result.stderr


def test_store_of_an_older_mlflow_is_told_with_the_command(made: Project) -> None:
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    result = sync_script(made)
    assert result.returncode == 1
    assert f"bring it up to date: mlflow db upgrade sqlite:///{Path('mlflow.db').absolute()}" in result.stderr


def answer_without_end(listening: socket.socket, healthy: bool) -> None:
    """Answer a request after the other, without end but to those for the health of a healthy server."""
    while True:
        with suppress(OSError):
            connection, _ = listening.accept()
            request = connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not (healthy and request.startswith(b"GET /health")):
                connection.sendall(b"x" * 100)
                time.sleep(0.05)
            connection.close()


@pytest.mark.parametrize(
    "what",
    ["no database", "no file", "question mark", "no server", "answers without end", "healthy, without end"],
)
def test_store_that_cannot_be_used_is_told_within_seconds(
    project: Project, monkeypatch: pytest.MonkeyPatch, what: str, store: Path
) -> None:
    address = None
    match what:
        case "no database":
            store.write_bytes(b"something else" * 1000)
        case "no file":
            store.unlink()
            store.mkdir()
        case "question mark":
            address = f"sqlite:///{project.folder}/what?/mlflow.db"
        case "no server":
            address = "http://somebody:secret@127.0.0.1:9"
        case "answers without end" | "healthy, without end":
            listening = socket.create_server(("127.0.0.1", 0))
            Thread(target=answer_without_end, args=(listening, what.startswith("healthy")), daemon=True).start()
            address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    if address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    began = time.monotonic()
    with pytest.raises(Exception, match=r"(database|end|refused|Read timed out)"):
        Sync(project.plan())
    assert time.monotonic() - began < 40  # of minutes that MLflow's own tries take


def test_passwords_are_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    tell("http://somebody:se-cret@127.0.0.1:9/health and postgresql://a:b@c/d do not answer")
    said = capsys.readouterr().err
    assert said == "MLflow: http://***@127.0.0.1:9/health and postgresql://***@c/d do not answer\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk of its own."""
    folder = tmp_path / "server"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


TRAIN_AND_SEND_OFTEN = """
import runpy, sys
from fspkd.tracking import follow
follow.SECONDS_BETWEEN_SENDINGS = 3
sys.argv[0] = "scripts/train.py"
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_server_that_fails_in_the_middle(workflow: Project, small_disk: Path, server: Server) -> None:
    """It is killed, falls silent, and its disk is full: training goes on, and what was missed is sent afterwards, once."""
    workflow.set("schedules.long", [{"until": 100_000, "rate": 0.01}])
    run = workflow.plan().net("teacher/1")
    environment = {"MLFLOW_TRACKING_URI": server.behind_proxy}
    command = ("python", "-c", TRAIN_AND_SEND_OFTEN, "results/tiny", run.id, "--checkpoint-seconds", "1")
    with Path("said").open("wb") as said:
        training = workflow.start(*command, environment=environment, stderr=said)
    client = MlflowClient(server.address)

    def sent_until() -> int:
        with suppress(MlflowException):  # a server that begins
            if client.get_experiment_by_name("fspkd-tiny"):
                return max((step for r in held(client).values() for step, _ in points(client, r, "loss")), default=0)
        return 0

    def wait_until(condition: Callable[[], object], what: str) -> None:
        for _ in range(240):
            time.sleep(0.5)
            assert training.poll() is None
            if condition():
                return
        raise AssertionError(f"waited in vain until {what}: {Path('said').read_text()}")

    def wait_for_more() -> None:
        step = sent_until()
        wait_until(lambda: sent_until() > step, f"more is sent than iteration {step}")

    def wait_for(failure: str) -> None:
        wait_until(lambda: re.search(rf"not everything was sent.*{failure}", Path("said").read_text()), "it is told")

    wait_for_more()
    server.kill()
    wait_for("Connection aborted")
    server.start()
    wait_for_more()
    server.lose_every(1)
    wait_for("ReadTimeout")
    server.lose_every(0)
    wait_for_more()
    filler = small_disk / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], check=False)
    wait_for("503")
    training.send_signal(signal.SIGTERM)
    assert training.wait() == 128 + signal.SIGTERM

    filler.unlink()
    assert sync_script(workflow, **environment).returncode == 0
    (tracked,) = (run for run in held(client).values() if run.info.run_name == "Teacher, net 1")
    saved = read_journal(run.folder).saved
    for key in ("loss", "test_accuracy"):
        wanted = [(i, v) for i, v in expected(run.folder.growing_metrics, key) if i <= saved]
        assert points(client, tracked, key) == wanted
