"""What is sent to MLflow, with real stores and servers."""

import math
import os
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, Project, edit
from forks import FORKS, IMPORTED
from mlflow import MlflowClient
from sent import check_everything, check_points, expected, held, local, points, send, send_as_another_process

from fspkd.errors import UserError
from fspkd.report import figures
from fspkd.runs.folder import RUNS, RunFolder
from fspkd.runs.journal import Journal, final_measurements, read_journal, usage
from fspkd.tracking.follow import FOLLOWED, Sender
from fspkd.tracking.sync import Sync
from fspkd.train.usage import append, sample

pytestmark = pytest.mark.usefixtures("store")


@pytest.mark.parametrize("where", ["local store", "server"])
def test_everything_is_sent_and_nothing_twice(
    made: Project,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    capfd: pytest.CaptureFixture[str],
) -> None:
    address = local(made)
    if where == "server":
        address = request.getfixturevalue("server").address
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for _ in range(2):
        send(made)
        check_everything(made, MlflowClient(address))
    assert address not in capfd.readouterr().out  # which may have a password


def test_a_row_of_one_net_has_an_average_and_no_experiment_is_empty(made: Project) -> None:
    """Also in a table of errors, so that all rows have the column that readers sort by."""
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
    # Imported once, and not in each of the eight; later tests in this process still have what they need.
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
    """Also if the store fails meanwhile. What has been sent is not read again: it could be gone."""
    made.content |= {"claims": None, "timings": {}}
    made.content["figures"]["figure3"]["curves"] = {"Student": "student"}
    made.set("tables.table1.rows", {"Teacher": "teacher"})
    client = send(made).store.client
    assert "figure3" not in held(client)  # the existing one was made from other rows
    figures.write(made.plan(), "figure3")
    figure = held(send(made).store.client)["figure3"]
    assert figure.data.tags.items() >= {"kind": "figure", "figure": "figure3"}.items()
    artifacts = {a.path for a in client.list_artifacts(figure.info.run_id)}
    assert artifacts == {"figure3.png", "figure3.svg", "figure3.csv", "figure3_flat.csv"}

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


def test_damaged_run_is_told_and_does_not_hold_up_the_others(project: Project) -> None:
    project.train("teacher/1", "teacher/2")
    damaged = project.plan().net("teacher/1").folder.manifest
    damaged.write_text("{")
    sender = Sender([Path("results/tiny")])
    assert not sender.send()
    assert sender.has_answer
    ((problem,), (sync,)) = sender.problems, sender.syncs.values()
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
    project.set("rows.student.stage1.weight", 1e30)
    with pytest.raises(UserError, match="diverged"):
        project.train("student/1")
    runs = held(send(project).store.client)
    first = project.plan().net("student/1").stage1.folder
    assert runs["Student*, stage 1"].info.status == "FAILED"
    assert runs["Student*, stage 1"].info.end_time == read_journal(first).ended
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
    """The damage is reported once, and the points are those of the metrics; its row is sent too."""
    project.set("rows.teacher.nets", 1)
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    content = run.folder.journal.read_bytes()
    run.folder.journal.write_bytes(content.replace(b'"iteration": 0', b'"iteration": 9'))
    table = Path("results/tiny/table1.csv")  # this shows it, though nothing says for which preset it was trained
    table.parent.mkdir(parents=True)
    table.touch()
    sync = Sync(project.plan())
    told = []
    for _ in range(2):
        assert sync.send_all() == []
        told += sync.new_damage()
    assert told == [
        f"{run.folder.journal}: is missing or damaged: the times of its points are estimated from its manifest"
    ]
    client = MlflowClient(local(project))
    check_points(project, client)
    row = held(client)["Teacher"]
    assert row.info.status == "FINISHED"
    assert points(client, row, "test_accuracy") == expected(run.folder.metrics, "test_accuracy")


def test_journal_that_is_cut_after_it_was_sent_changes_nothing_there(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.train("teacher/1", "teacher/2")
    before = held(send(project).store.client)
    journal = project.plan().net("teacher/2").folder.journal
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    sender = Sender([Path("results/tiny")])
    assert sender.send()
    assert f"{journal}: is missing or damaged" in capsys.readouterr().err
    (sync,) = sender.syncs.values()
    assert {name: run.info for name, run in held(sync.store.client).items()} == {
        name: run.info for name, run in before.items()
    }


def test_net_that_was_trained_anew_is_another_though_its_journal_is_cut(project: Project) -> None:
    """Its weights tell."""
    project.set("rows.teacher.nets", 1)
    project.train("teacher/1")
    before = held(send(project).store.client)
    folder = project.plan().net("teacher/1").folder
    manifest = folder.read_manifest()
    folder.write_manifest(manifest.model_copy(update={"weights_sha256": "0" * 64}))
    folder.journal.write_bytes(b"".join(folder.journal.read_bytes().splitlines(keepends=True)[:-1]))
    Sync(project.plan()).send_all()
    runs = held(Sync(project.plan()).store.client)
    replaced = runs["Teacher, net 1, replaced"]
    assert replaced.info.run_id == before["Teacher, net 1"].info.run_id
    assert replaced.data.tags["weights_sha256"] == manifest.weights_sha256


def test_values_of_a_row_that_have_changed_are_sent_again(made: Project) -> None:
    """Such as a published number that was corrected."""
    before = held(send(made).store.client)["Student*"].data.metrics
    reference = Path("config/fsp/reference/table1_cifar10.csv")
    edit(reference, "92.07,92.14,93.26", "92.07,12.34,93.26")
    sync = send(made)
    row = held(sync.store.client)["Student*"]
    assert row.data.metrics == before | {"average_published": 12.34}
    assert len(points(sync.store.client, row, "average")) == 1


def test_a_row_is_sent_as_soon_as_its_nets_are(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that on a slow server it has its values before other rows' nets are sent."""
    sync = Sync(made.plan())
    monkeypatch.setattr(sync, "_run", lambda run, send=sync._run: sent.append(run.spec.row) or send(run))
    monkeypatch.setattr(sync, "_row", lambda row, send=sync._row: sent.append(f"row {row}") or send(row))
    sent: list[str] = []
    assert sync.send_all() == []
    rows = {row: sent.index(f"row {row}") for row in made.plan().rows}
    assert rows["teacher"] < sent.index("student")
    for row, place in rows.items():
        assert place == max(index for index, name in enumerate(sent) if name == row) + 1


def test_a_folder_that_was_moved_sends_nothing_to_where_it_was(
    made: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(made)
    moved = tmp_path.with_name(f"{tmp_path.name} moved")
    tmp_path.rename(moved)
    monkeypatch.chdir(moved)
    made = Project(moved)
    told = made.run("python", "scripts/sync_mlflow.py", "results/tiny")
    assert told.returncode == 1
    assert "mlflow.db was made in another folder" in told.stderr
    assert "rm -r mlflow.db mlartifacts;" in told.stderr
    Path("mlflow.db").unlink()
    shutil.rmtree("mlartifacts")
    for _ in range(2):
        send(made)
        check_everything(made, MlflowClient(local(made)))
    assert not tmp_path.exists()


def test_a_call_of_a_local_store_is_not_cut_off(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database would stay locked."""
    monkeypatch.setattr("fspkd.tracking.store.SECONDS_OF_A_CALL", 0.001)
    send(made)
    check_everything(made, MlflowClient(local(made)))


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
    """Checked for a killed run by its journal, for a finished one by its manifest."""
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    journal = read_journal(run.folder)
    for file in (run.folder.metrics, run.folder.growing_metrics):
        content = file.read_bytes()
        file.write_bytes(content.replace(b"\n5,", b"\n4,"))
        with pytest.raises(UserError, match=rf"{file.name}: (is missing, or )?does not match"):
            final_measurements(run.folder, journal)
        file.write_bytes(content)
        assert len(final_measurements(run.folder, journal)) == 20
        run.folder.manifest.unlink(missing_ok=True)


def test_use_of_a_machine_without_and_then_of_one_with_a_gpu(tmp_path: Path) -> None:
    cpu = sample(torch.device("cpu"))
    folder = RunFolder(tmp_path)
    append([folder], cpu)
    unread = sample(torch.device("cuda"))  # from a GPU that cannot be read, such as a slice
    append([folder], unread)
    append([folder], {**cpu, "gpu_0_power_usage_watts": 70.5})
    assert usage(folder)["gpu_0_power_usage_watts"].tolist() == pytest.approx([math.nan, math.nan, 70.5], nan_ok=True)
    assert unread["system_memory_usage_megabytes"] > 0


@pytest.mark.parametrize(("left", "kept"), [(slice(-5), 1), (slice(10), 0), (slice(0), 0)])
def test_use_of_a_machine_is_read_on_after_a_crash_has_cut_it(project: Project, left: slice, kept: int) -> None:
    """Cut within the second line of numbers, within the header, and all of it."""
    project.train("teacher/1")
    folder = project.plan().net("teacher/1").folder
    append([folder], sample(torch.device("cpu")))
    whole = usage(folder)
    assert len(whole) == 2
    folder.usage.write_bytes(folder.usage.read_bytes()[left])
    folder.manifest.unlink()
    project.train("teacher/1")  # this records it once more
    again = usage(folder)
    assert (list(again), len(again)) == (list(whole), kept + 1)
    assert again["time"].tolist()[:kept] == whole["time"].tolist()[:kept]
    assert again["time"].tolist()[kept] > whole["time"].tolist()[1]
