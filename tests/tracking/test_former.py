"""What MLflow has of former settings, of nets that are gone, and of other presets."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import Project
from mlflow.entities import Run
from sent import held, send

from fspkd.plans import plan_for
from fspkd.report import tables
from fspkd.tracking.follow import FOLLOWED, Sender, has_begun
from fspkd.tracking.sync import Sync

pytestmark = pytest.mark.usefixtures("store")


def test_nets_trained_anew_get_runs_of_their_own_and_their_row_one(project: Project) -> None:
    """However many of them are sent at a time; the earlier runs keep their content."""
    nets = ("teacher/1", "teacher/2")
    project.train(*nets)
    before = held(send(project).store.client)
    for net in nets:
        shutil.rmtree(project.plan().net(net).folder)
    sync = send(project)  # before any of them begins, and again later, as beside one workflow
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


def test_a_net_trained_anew_takes_the_others_of_its_row_along(project: Project) -> None:
    """In one sending, also those that come before it."""
    project.train("teacher/1", "teacher/2")
    send(project)
    shutil.rmtree(project.plan().net("teacher/2").folder)
    project.train("teacher/2")
    for _ in range(2):
        runs = held(send(project).store.client)
        assert set(runs) == {
            "Teacher", "Teacher, net 1", "Teacher, net 2", "Teacher, replaced", "Teacher, net 2, replaced"
        }  # fmt: skip
        assert runs["Teacher"].info.status == "FINISHED"
        parents = {name: runs[name].data.tags["mlflow.parentRunId"] for name in ("Teacher, net 1", "Teacher, net 2")}
        assert set(parents.values()) == {runs["Teacher"].info.run_id}


def test_a_row_is_replaced_too_if_that_fails_halfway(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.train("teacher/1", "teacher/2")
    before = held(send(project).store.client)
    shutil.rmtree(project.plan().net("teacher/2").folder)
    project.train("teacher/2")
    sync, replaced = Sync(project.plan()), []

    def fail_later(identity: str, replace: Callable[[str], None] = sync.store.replace) -> None:
        if replaced:
            raise TimeoutError
        replace(identity)
        replaced.append(identity)

    monkeypatch.setattr(sync.store, "replace", fail_later)
    with pytest.raises(TimeoutError):
        sync.send_all()
    runs = held(send(project).store.client)
    for name in ("Teacher", "Teacher, net 2"):
        assert runs[f"{name}, replaced"].info.run_id == before[name].info.run_id
        assert runs[f"{name}, replaced"].data.metrics == before[name].data.metrics
    assert len(runs) == 5


def test_a_finished_row_keeps_its_values_while_a_net_is_gone(made: Project) -> None:
    """Of a table's row with replicates, whose average would be of the others alone; and of a row in no table."""
    made.content |= {"claims": None, "figures": {}, "timings": {}}
    made.set("tables.table1.rows", {"Teacher": "teacher"})
    made.set("replicates", 2)
    made.train("teacher/2", "student/1", "student/2", replicate=2)
    before = held(send(made).store.client)
    nets = made.plan().net("teacher/2", 2), made.plan().net("student/2")
    nets[1].folder.predictions.unlink()
    sync = send(made)
    (damage,) = sync.new_damage()
    assert str(nets[1].folder.predictions) in damage
    for net in nets:
        shutil.rmtree(net.folder)
    for after in (held(sync.store.client), held(send(made).store.client)):
        for row in ("Teacher", "student"):
            assert before[row].info.status == "FINISHED"
            assert after[row].data.metrics == before[row].data.metrics


def test_a_local_store_knows_its_folder_by_path_and_leaves_alone_what_a_server_on_it_was_sent(project: Project) -> None:
    """`make mlflow` starts such a server, which others may use; and inodes change where a folder is restored."""
    project.train("teacher/1")
    sync = send(project)
    elsewhere = Sync(project.plan())
    elsewhere.store.place, elsewhere.store.is_local = "/elsewhere, inode 7", False
    assert elsewhere.send_all() == []
    restored = Sync(project.plan())
    restored.store.place = f"{project.folder}, inode 7"
    for sender in (restored, sync, elsewhere):
        assert sender.send_all() == []
    runs = sync.store.client.search_runs([sync.store.experiment])
    names = [(run.info.run_name, run.data.tags["sent_from"].startswith("/elsewhere")) for run in runs]
    assert sorted(names) == [(name, there) for name in ("Teacher", "Teacher, net 1") for there in (False, True)]


def test_two_folders_have_runs_of_their_own_and_leave_each_others_alone(
    project: Project, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shared store, whether they share a net, trained the same one twice, or differ in settings."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")

    def act(place: str, *nets: str, shares: tuple[str, ...] = ()) -> dict[str, Run]:
        """Train nets at a place, and send what it has, from copies of others' nets too; returns what all have sent."""
        folder = project.folder / f"runs of {place}"
        if folder.exists():
            shutil.move(folder, "results/runs")
        for net in shares:
            run = project.plan().net(net).folder
            shutil.copytree(project.folder / "runs of here" / Path(*Path(run).parts[-2:]), run)
        project.train(*nets)
        sync = Sync(project.plan())
        assert sync.store.place == f"{project.folder}, inode {project.folder.stat().st_ino}"
        sync.store.place = place
        assert sync.send_all() == []
        shutil.move("results/runs", folder)
        return {run.info.run_id: run for run in sync.store.client.search_runs([sync.store.experiment])}

    def of(place: str, runs: dict[str, Run]) -> dict[str, tuple]:
        own = {id: run for id, run in runs.items() if run.data.tags["sent_from"] == place}
        return {id: (run.info.status, run.info.run_name, run.data.tags, run.data.metrics) for id, run in own.items()}

    here = of("here", act("here", "teacher/1"))
    assert len(here) == 2
    everything = act("there", "teacher/2", shares=("teacher/1",))
    assert of("here", everything) == here
    there = of("there", everything)
    assert sorted(name for _, name, _, _ in there.values()) == ["Teacher", "Teacher, net 1", "Teacher, net 2"]
    assert {status for status, *_ in there.values()} == {"FINISHED"}
    everything = act("here", "teacher/2")
    assert of("there", everything) == there
    here = of("here", everything)
    (rows,) = ([id for id, run in everything.items() if run.data.tags["kind"] == "row"],)
    assert len(everything) == 6
    for place in (here, there):
        (row,) = place.keys() & set(rows)
        assert [tags["mlflow.parentRunId"] for _, _, tags, _ in place.values() if "mlflow.parentRunId" in tags] == [
            row
        ] * 2
    project.set("seed", 2)
    everything = act("there")
    assert of("here", everything) == here
    assert {name for _, name, _, _ in of("there", everything).values()} == {
        "Teacher, former settings", "Teacher, net 1, former settings", "Teacher, net 2, former settings"
    }  # fmt: skip


def test_a_preset_that_shares_nets_is_sent_what_it_shows(made: Project) -> None:
    """But not a table that nobody has made, nor its nets."""
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    tables = {"table1": None, "mine": {"title": "Mine", "rows": {"Student*": "student"}}}
    child = {"extends": "tiny", "results": "results/child", "claims": None, "rows": {"short": row}, "tables": tables}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    assert not has_begun(plan_for(Path("results/child")))
    drawn = {"extends": "tiny", "results": "results/drawn", "shows": ["figure3"]}
    Path("config/drawn.yaml").write_text(yaml.safe_dump(drawn))
    assert not has_begun(plan_for(Path("results/drawn")))
    Path("results/drawn").mkdir()
    Path("results/drawn/figure3.png").touch()
    assert has_begun(plan_for(Path("results/drawn")))
    Path("results/drawn/figure3.png").unlink()
    journal = made.plan().net("teacher/1").folder.journal
    journal.rename("journal")
    journal.mkdir()  # which not even root can read, so sending tells that it cannot be read
    assert has_begun(plan_for(Path("results/drawn")))
    journal.rmdir()
    Path("journal").rename(journal)
    assert made.run("snakemake", "results/child/mine.csv", **{FOLLOWED: "1"}).returncode == 0
    sync = Sync(plan_for(Path("results/child")))
    assert sync.send_all() == []
    runs = sync.store.client.search_runs([sync.store.experiment])
    assert {run.info.run_name for run in runs} == {
        "Student*", "Student*, stage 1", "Student*, net 1", "Student*, net 2", "teacher", "teacher, net 1", "mine"
    }  # fmt: skip


def test_a_journal_that_cannot_be_read_keeps_nothing_else_from_being_sent(project: Project) -> None:
    project.train("teacher/1")
    Path("config/first.yaml").write_text("extends: tiny\nresults: results/first\nseed: 2\n")
    journal = plan_for(Path("results/first")).net("teacher/1").folder.journal
    journal.mkdir(parents=True)
    sender = Sender([Path("results/first"), Path("results/tiny")])
    sender.send()
    assert "Is a directory" in sender.problems[0]
    assert "Teacher, net 1" in held(sender.syncs[Path("results/tiny")].store.client)


def test_run_of_former_settings_is_sent(project: Project) -> None:
    project.train("student/1")
    send(project)
    project.set("training.optimizer.momentum", 0.8)
    runs = held(send(project).store.client)
    assert {"Student*, net 1, former settings", "Student*, stage 1, former settings"} <= set(runs)
    assert runs["Student*, net 1, former settings"].data.tags["stage1"] == "fsp"


def test_rows_and_tables_of_former_settings_are_called_so_and_ended(made: Project) -> None:
    """Until their settings are the current ones again."""
    made.content |= {"claims": None, "figures": {}, "timings": {}}
    made.set("tables.table1.rows", {"Teacher": "teacher"})
    shutil.rmtree(made.plan().net("student/2").folder)  # so that its row is not finished
    tables.write(made.plan(), "table1")

    def ended() -> dict[str, str]:
        runs = held(send(made).store.client)
        return {name: run.info.status for name, run in runs.items() if run.data.tags["kind"] in ("row", "table")}

    before = {"Teacher": "FINISHED", "fitnet": "FINISHED", "student": "SCHEDULED", "table1": "FINISHED"}
    assert ended() == before
    made.set("replicates", 2)
    former = {f"{name}, former settings": status for name, status in before.items()}
    former["student, former settings"] = "KILLED"
    rows = ("Teacher", "fitnet", "student")
    assert ended() == former | dict.fromkeys(rows, "SCHEDULED")
    made.set("replicates", 1)
    assert ended() == before | {f"{row}, former settings": "KILLED" for row in rows}


def test_a_table_named_as_its_only_row_is_another_run(made: Project) -> None:
    made.content |= {"claims": None, "figures": {}, "timings": {}}
    made.content["tables"] = {"teacher": {"title": "A table of one row", "rows": {"Teacher": "teacher"}}}
    made.write()
    tables.write(made.plan(), "teacher")
    kinds = [run.data.tags["kind"] for run in held(send(made).store.client).values()]
    assert (kinds.count("row"), kinds.count("table")) == (3, 1)
