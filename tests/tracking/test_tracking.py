"""What MLflow is sent, to real stores and servers."""

import math
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import REPOSITORY, Project
from forks import FORKS, IMPORTED
from mlflow import MlflowClient
from pydantic import TypeAdapter
from sent import check_everything, check_points, expected, held, local, points, send, send_as_another_process

from fspkd.data.packed import load_packed
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.networks import AnyNetwork
from fspkd.plan import plan_for
from fspkd.report import curves
from fspkd.report.tables import make_table, write_table
from fspkd.runs.folder import RUNS, ImageFacts, RunFolder
from fspkd.runs.journal import Journal, final_measurements, read_journal, usage
from fspkd.tracking.follow import FOLLOWED, Sender, has_begun
from fspkd.tracking.sync import Sync
from fspkd.train.usage import append, sample

pytestmark = pytest.mark.usefixtures("store")


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
        model_id = sync.store.model(name, net.train(), ImageFacts(shape=shape, classes=tuple("abcdefghij")), 1)
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
assert served.metadata.metadata == {"shape": [1, 8, 8], "classes": list("0123456789"), "preprocess": None}
assert served.input_example.shape == (2, 1, 8, 8)
assert served.predict(served.input_example).shape == (2, 10)
"""
    loaded = made.run("python", "-c", code, *models, MLFLOW_TRACKING_URI=local(made))
    assert loaded.returncode == 0, loaded.stderr
    for model_id, (_, logits) in models.items():
        np.testing.assert_allclose(np.load(f"{model_id}.logits.npy"), logits, atol=1e-5)
        assert logits.std() > 0.01  # not all the same


def test_nets_trained_anew_get_runs_of_their_own_and_their_row_one(project: Project) -> None:
    """However many of them are sent at a time; those of before keep what they hold."""
    nets = ("teacher/1", "teacher/2")
    project.train(*nets)
    before = held(send(project).store.client)
    for net in nets:
        shutil.rmtree(project.plan().net(net).folder)
    sync = send(project)  # before any of them begins, and from then on, as beside one workflow
    for net in nets:
        project.train(net)
        assert not sync.send_all()
        runs = held(sync.store.client)
        rows = {name: run.info.status for name, run in runs.items() if run.data.tags["kind"] == "row"}
        assert rows == {"Teacher": "FINISHED" if net == nets[-1] else "SCHEDULED", "Teacher, replaced": "FINISHED"}
    assert set(runs) == {*before, *(f"{name}, replaced" for name in before)}
    for name, old in before.items():
        replaced, new = runs[f"{name}, replaced"], runs[name]
        assert (replaced.info.run_id, replaced.data.metrics) == (old.info.run_id, old.data.metrics)
        assert replaced.data.tags["identity"] == f"{new.data.tags['identity']}, replaced"
        assert new.data.tags.get("mlflow.parentRunId") in (None, runs["Teacher"].info.run_id)


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


def test_rows_and_tables_of_former_settings_are_called_so_and_ended(made: Project) -> None:
    """Until their settings are the present ones again."""
    made.content |= {"claims": None, "figures": {}, "timings": {}}
    made.set("tables.table1.rows", {"Teacher": "teacher"})
    shutil.rmtree(made.plan().net("student/2").folder)  # so that its row is not finished
    write_table(make_table(made.plan(), "table1"), made.plan(), "table1", Path("results/tiny/table1.csv"))

    def ended(sync: Sync | None = None) -> dict[str, str]:
        runs = held((sync or send(made)).store.client)
        return {name: run.info.status for name, run in runs.items() if run.data.tags["kind"] in ("row", "table")}

    before = {"Teacher": "FINISHED", "fitnet": "FINISHED", "student": "SCHEDULED", "table1": "FINISHED"}
    assert ended() == before
    made.set("replicates", 2)
    former = {f"{name}, former settings": status for name, status in before.items()}
    former["student, former settings"] = "KILLED"
    rows = ("Teacher", "fitnet", "student")
    assert ended() == former | dict.fromkeys(rows, "SCHEDULED")
    made.set("seed", 2)
    elsewhere = Sync(made.plan())
    elsewhere.place = "another machine:/with/a/clone"
    elsewhere.send_all()
    assert ended(elsewhere) == former | dict.fromkeys(rows, "SCHEDULED")  # which was sent from here
    made.set("seed", 1)
    made.set("replicates", 1)
    assert ended() == before | {f"{row}, former settings": "KILLED" for row in rows}


def test_a_table_named_as_its_only_row_is_another_run(made: Project) -> None:
    made.content |= {"claims": None, "figures": {}, "timings": {}}
    made.content["tables"] = {"teacher": {"title": "A table of one row", "rows": {"Teacher": "teacher"}}}
    made.write()
    write_table(make_table(made.plan(), "teacher"), made.plan(), "teacher", Path("results/tiny/teacher.csv"))
    kinds = [run.data.tags["kind"] for run in held(send(made).store.client).values()]
    assert (kinds.count("row"), kinds.count("table")) == (3, 1)


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
