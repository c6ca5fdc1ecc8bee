"""Files on disk: training resumes from any moment, and no file is mistaken for another."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import REPOSITORY, Project, flip_a_bit, images_of
from shortages import memory_left, no_more_files

from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.errors import UserError
from fspkd.runs import folder
from fspkd.runs.journal import read_journal
from fspkd.train import loop, session
from fspkd.train.machine import check_precision
from fspkd.weights import load, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("not_followed")


def test_killed_at_random_moments_and_resumed_ends_with_the_same_bits(project: Project) -> None:
    """SIGKILL twice in the stage of hints, whose regressors, momentum and best state so far must be restored too.

    At its second rate it gets worse, and stops by validation.
    """
    project.set("schedules.first", [{"until": 840, "rate": 1e-4}, {"until": 1000, "rate": 0.03}])
    project.set("data.images.validation", 60)
    project.set("rows.fitnet.stop", {"by": "validation", "patience": 60, "every": 30})
    project.pack()
    project.train("teacher/1")
    run = project.plan().net("fitnet/1").start
    command = [
        sys.executable,
        REPOSITORY / "scripts" / "train.py",
        "results/tiny",
        run.id,
        "--checkpoint-seconds",
        "0.05",
    ]
    growing = run.folder.growing_metrics
    draw = random.Random(0)
    for _ in range(2):
        size = growing.stat().st_size if growing.exists() else 0
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None and (not growing.exists() or growing.stat().st_size <= size):
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.4))
        assert process.poll() is None, "the training ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not run.folder.manifest.exists()
    subprocess.run(command, check=True)
    killed = run.folder.read_manifest()
    starts = [attempt.from_iteration for attempt in killed.attempts]
    assert starts == sorted(starts)
    assert 0 < starts[-1] < 900
    assert (killed.iterations, killed.best_iteration) == (900, 840)
    metrics = run.folder.metrics.read_bytes()
    assert list(pd.read_csv(run.folder.metrics)["iteration"]) == list(range(1, 901))

    shutil.rmtree(run.folder)
    loop.train([run], torch.device("cpu"), 1000)
    assert len(run.folder.read_manifest().attempts) == 1
    assert run.folder.read_manifest().weights_sha256 == killed.weights_sha256
    assert run.folder.read_manifest().best_validation == killed.best_validation
    assert run.folder.metrics.read_bytes() == metrics


def test_death_while_finishing_and_removed_outputs_cost_no_iteration(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = project.plan().net("teacher/1")

    def die(path: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folder, "file_sha256", die)  # after the outputs, before the manifest
        with pytest.raises(KeyboardInterrupt):
            project.train("teacher/1")
    assert not run.folder.manifest.exists()
    project.train("teacher/1")
    first = run.folder.read_manifest()
    metrics = run.folder.metrics.read_bytes()
    for file in (run.folder.manifest, *run.folder.outputs(stage=2)):
        file.unlink()
    project.train("teacher/1")
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 20, 20]
    assert run.folder.read_manifest().outputs_sha256 == first.outputs_sha256
    assert run.folder.metrics.read_bytes() == metrics


def test_complete_run_is_left_alone_until_an_input_or_an_output_changes(project: Project) -> None:
    project.train("fitnet/1")
    plan = project.plan()
    run, teacher = plan.net("fitnet/1"), plan.net("teacher/1")
    made = {
        file: file.stat().st_mtime_ns for file in run.folder.path.iterdir() if file.name not in ("lock", "run.yaml")
    }
    first = run.folder.read_manifest()
    loop.train([run], torch.device("cpu"), 1000)
    assert {file: file.stat().st_mtime_ns for file in made} == made

    content = bytearray(run.folder.metrics.read_bytes())
    content[-2] ^= 1
    run.folder.metrics.write_bytes(content)
    loop.train([run], torch.device("cpu"), 1000)
    assert run.folder.read_manifest().outputs_sha256 == first.outputs_sha256
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 8]

    state = {name: tensor + 0.01 for name, tensor in load_weights(teacher.weights, teacher.id).items()}
    sha256 = save_weights(state, teacher.weights, teacher.id)
    loop.train([run], torch.device("cpu"), 1000)  # still complete, though its teacher's weights file changed
    assert run.folder.read_manifest().attempts[-1].from_iteration == 8
    with pytest.raises(
        UserError, match=r"teacher-1-\w+/weights.pt: these weights do not match manifest.json beside them"
    ):
        loop.train([plan.net("student/1").start], torch.device("cpu"), 1000)
    teacher.folder.write_manifest(teacher.folder.read_manifest().model_copy(update={"weights_sha256": sha256}))
    loop.train([run], torch.device("cpu"), 1000)
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0]
    assert run.folder.read_manifest().weights_sha256 != first.weights_sha256


def test_checkpoint_of_other_code_or_images_is_not_used_where_it_is_finished_or_does_not_fit(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    whole = run.folder.read_manifest().weights_sha256
    run.folder.manifest.unlink()
    other = {"engine": "other", "method": "code"}
    with monkeypatch.context() as patch:
        patch.setattr(session.Run, "code_sha256", other)
        project.train("teacher/1")
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0]
    # Begun by other code, and finished by this.
    run.folder.manifest.unlink()
    saved = torch.load(run.folder.checkpoint)
    saved["attempts"] = [{**saved["attempts"][0], "code_sha256": other}, *saved["attempts"]]
    torch.save(saved, run.folder.checkpoint)
    project.train("teacher/1")
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0]
    # Only begun, by other code with modules that this one lacks.
    run.folder.manifest.unlink()
    saved = torch.load(run.folder.checkpoint)
    saved["member"] |= {"iteration": 5, "objective": {"own.memory": torch.zeros(3)}}
    saved["attempts"] = [{**saved["attempts"][0], "code_sha256": other}]
    torch.save(saved, run.folder.checkpoint)
    project.train("teacher/1")
    assert "cannot resume from its checkpoint, so it starts over" in capsys.readouterr().out
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0]
    assert run.folder.read_manifest().weights_sha256 == whole  # not from the half that could be loaded
    run.folder.manifest.unlink()
    data = load_packed(run.data.path)
    data.images["train"][0] ^= 1
    save_packed(PackedData(data.images, data.labels, data.classes, data.source), run.data.path)
    project.train("teacher/1")
    assert len(run.folder.read_manifest().attempts) == 1
    assert run.folder.read_manifest().inputs_sha256["data"] == load_packed(run.data.path).sha256


def test_sigterm_saves_a_checkpoint(project: Project) -> None:
    project.set("schedules.long", [{"until": 5000, "rate": 0.01}])
    run = project.plan().net("teacher/1")
    command = [
        sys.executable,
        REPOSITORY / "scripts" / "train.py",
        "results/tiny",
        run.id,
        "--checkpoint-seconds",
        "1000",
    ]
    process = subprocess.Popen(command)
    growing = run.folder.growing_metrics
    while not growing.exists() or growing.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    saved = load(run.folder.checkpoint, run.id, "")
    assert saved["member"]["iteration"] == growing.read_bytes().count(b"\n") - 1


def die(session: session.Session) -> None:
    raise KeyboardInterrupt


def test_seconds_of_a_run_are_those_of_all_its_attempts(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One from 100 to 110 that saves twice and is killed, and one from 1000 to 1012, by a clock that is set by hand."""
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(session, "time", clock)
    run = project.plan().net("teacher/1")
    images = images_of(run)
    killed = session.Session(run, images, None)
    clock.now = 103.0
    killed.save()
    clock.now = 110.0
    killed.save()
    clock.now = 1000.0
    resumed = session.Session(run, images, None)
    clock.now = 1012.0
    resumed.finish()
    assert run.folder.read_manifest().seconds == 10 + 12


def test_damaged_weights_of_a_teacher_are_named(project: Project) -> None:
    project.train("teacher/1")
    flip_a_bit(project.plan().net("teacher/1").folder.weights)
    with pytest.raises(UserError, match=r"weights.pt: this file is damaged.*snakemake"):
        loop.train([project.plan().net("fitnet/1").start], torch.device("cpu"), 1000)


@pytest.mark.parametrize(
    ("damage", "begins_at", "named"),
    [
        ([], 20, []),
        (["checkpoint.pt"], 19, ["checkpoint.pt: is damaged"]),
        (
            ["checkpoint.pt", "checkpoint.previous.pt"],
            0,
            ["checkpoint.pt: is damaged", "checkpoint.previous.pt: is damaged"],
        ),
        (["metrics.partial.csv"], 0, ["metrics.partial.csv: does not match checkpoint.pt"]),
        (["journal.jsonl"], 20, ["journal.jsonl: is damaged"]),
    ],
)
def test_what_is_damaged_is_named_and_what_was_before_is_used(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: list[str],
    begins_at: int,
    named: list[str],
) -> None:
    """One flipped bit in each file of a run that was killed just before finishing; it ends with the same bits."""
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    assert not run.folder.previous_checkpoint.exists()
    whole, metrics = run.folder.read_manifest(), run.folder.metrics.read_bytes()
    shutil.rmtree(run.folder)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            loop.train([run], torch.device("cpu"), 0)
    for name in damage:
        flip_a_bit(run.folder.path / name)
    capsys.readouterr()
    loop.train([run], torch.device("cpu"), 1000)
    told = capsys.readouterr().out
    assert [text for text in named if text not in told] == []
    assert told.count("damaged") + told.count("does not match") == max(len(named), told.count("does not match"))
    manifest = run.folder.read_manifest()
    assert manifest.attempts[-1].from_iteration == begins_at
    assert manifest.outputs_sha256["metrics.csv"] == whole.outputs_sha256["metrics.csv"]
    assert (manifest.weights_sha256, run.folder.metrics.read_bytes()) == (whole.weights_sha256, metrics)
    journal = read_journal(run.folder)
    assert (journal.saved, journal.is_damaged) == (20, False)
    before = journal.lines[0]["iteration"]  # iterations of a former journal, where the last checkpoint is lost
    assert (len(journal.times), set(journal.times[:before])) == (20, {journal.started} if before else set())
    assert (journal.times[before:] > journal.started).all()


def test_what_is_a_link_into_a_cache_is_not_written_through(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run = project.plan().net("teacher/1")
    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            loop.train([run], torch.device("cpu"), 0)
    cached = {}
    for path in (run.folder.journal, run.folder.usage):
        os.link(path, link := project.folder / path.name)
        cached[link] = path.read_bytes()
    loop.train([run], torch.device("cpu"), 1000)
    assert {link: link.read_bytes() for link in cached} == cached
    assert run.folder.journal.read_bytes().startswith(cached[project.folder / run.folder.journal.name])


def test_shortage_is_no_damage_and_the_checkpoint_stays(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    run.folder.manifest.unlink()
    saved = {**torch.load(run.folder.checkpoint), "more": torch.zeros(2**24)}  # 64 megabytes
    torch.save(saved, run.folder.checkpoint)
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        load(run.folder.checkpoint, run.id, "")
    with memory_left(48), pytest.raises(RuntimeError, match="can't allocate memory"):
        project.train("teacher/1")
    project.train("teacher/1")
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 20]


def test_a_run_that_goes_on_elsewhere_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    here = run.folder.read_manifest().attempts[0]
    run.folder.manifest.unlink()
    elsewhere = {**session.description(torch.device("cpu")), "processor": "another", "threads": 7}
    capsys.readouterr()
    monkeypatch.setattr(session, "description", lambda device: elsewhere)
    project.train("teacher/1")
    told = capsys.readouterr().out
    assert (
        f"threads: {here.threads}, now 7; processor: {here.processor}, now another): its bits will match those of"
        in told
    )
    assert [attempt.threads for attempt in run.folder.read_manifest().attempts] == [here.threads, 7]


def test_a_preset_may_refuse_another_precision(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.set("training.precision", "bfloat16")
    run = project.plan().net("teacher/1")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    check_precision([run], torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    with pytest.raises(
        UserError, match=r"training.precision = 'bfloat16': .* has no instructions for it.* without_bfloat16"
    ):
        check_precision([run], torch.device("cpu"))


def test_complete_run_keeps_its_manifest_where_its_data_are_gone_or_damaged(project: Project) -> None:
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    manifest, packed = run.folder.manifest.read_bytes(), run.data.path.read_bytes()
    run.data.path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"this packed data set is damaged"):
        project.train("teacher/1")
    run.data.path.unlink()
    with pytest.raises(UserError, match=r"no such packed data set"):
        project.train("teacher/1")
    assert run.folder.manifest.read_bytes() == manifest
    run.data.path.write_bytes(packed)
    project.train("teacher/1")
    assert run.folder.manifest.read_bytes() == manifest


def test_another_data_set_in_the_place_of_pinned_data_is_named(project: Project) -> None:
    pin = load_packed(project.plan().net("teacher/1").data.path).sha256
    project.set("data.images.sha256", pin)
    project.pack()
    run = project.plan().net("teacher/1")
    project.set("data.images.validation", 60)
    project.pack()
    other = project.plan().net("teacher/1").data
    unknown = dataclasses.replace(load_packed(run.data.path), pinned=None)
    for packed, what in ((load_packed(other.path), other.id), (unknown, "images of unknown origin")):
        save_packed(packed, run.data.path)
        message = rf"{run.data.path}: holds {what}, and not {run.data.id}, which the preset pins. Delete it"
        with pytest.raises(UserError, match=message):
            loop.train([run], torch.device("cpu"), 1000)


def test_a_run_that_another_process_trains_is_waited_for(project: Project) -> None:
    run = project.plan().net("teacher/1")
    run.folder.path.mkdir(parents=True)
    command = [sys.executable, REPOSITORY / "scripts" / "train.py", "results/tiny", run.id]
    with run.folder.lock:
        second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert "waiting for it to end" in second.stdout.readline()
        stopped = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert "waiting for it to end" in stopped.stdout.readline()
        stopped.terminate()
        assert stopped.wait(60) == 128 + signal.SIGTERM
        assert second.poll() is None
    assert second.wait(60) == 0
    assert project.checksums().keys() == {run.id}


def test_a_complete_run_is_free_while_others_of_its_job_are_trained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.train("teacher/1")
    complete, other = project.plan().nets("teacher")
    found = []
    monkeypatch.setattr(
        loop.Loop, "to_the_end", lambda _: found.append((complete.folder.is_training, other.folder.is_training))
    )
    loop.train([complete, other], torch.device("cpu"), 1000)
    assert found == [(False, True)]


def test_training_goes_on_where_nobody_reads_what_it_says(project: Project) -> None:
    run = project.plan().net("teacher/1")
    command = f"{sys.executable} {REPOSITORY}/scripts/train.py results/tiny {run.id} 2>&1 | true"
    assert subprocess.run(["bash", "-o", "pipefail", "-c", command]).returncode == 0
    assert project.checksums().keys() == {run.id}
