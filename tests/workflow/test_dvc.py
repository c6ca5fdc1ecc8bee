"""`dvc repro` on the tiny preset: what has changed is remade, and what was made can be fetched."""

import hashlib
import os
import random
import runpy
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY, WORKFLOW, Project, edit, flip_a_bit
from shortages import may_not_be_read, no_more_files

from fspkd.errors import UserError
from fspkd.tracking.follow import FOLLOWED

CACHES = shutil.ignore_patterns("__pycache__", "*.egg-info")
TARGETS = ("results/tiny/summary.html",)
REPORT = ("snakemake", *TARGETS, "--report", "report.html")
PLOTS = {name: {"results/tiny/figure3.csv": [f"Teacher: {name}"]} for name in ("accuracy", "loss")}
SHOWN = {
    "tables": ["table1"],
    "figures": ["figure3"],
    "other_figures": ["matrices"],
    "timings": ["timing"],
    "claims": ["claims"],
}
RESULTS = {"summary", *(f"{stage}@{name}" for stage, (name,) in SHOWN.items())}


def tiny(folder: Path) -> Project:
    """The project in a folder; its preset also has a figure of another kind."""
    project = Project(folder)
    project.set("figures.matrices", {"kind": "matrices", "title": "Matrices", "net": "student/1"})
    return project


def settle(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """The project in a folder, which becomes the working directory, with the package's source from there."""
    patch.chdir(folder)
    patch.setenv("PYTHONPATH", str(folder / "src"))
    patch.setenv(FOLLOWED, "1")
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # where the user may sign commits
    patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder / "none"))  # where the user may have a cache of their own
    for variable in ("GIT_AUTHOR", "GIT_COMMITTER"):
        patch.setenv(f"{variable}_NAME", "test")
        patch.setenv(f"{variable}_EMAIL", "test@example.org")
    return tiny(folder)


def new_repository(folder: Path, patch: pytest.MonkeyPatch) -> Project:
    """A git and DVC repository with the workflow and the package's source in it."""
    for name in (*WORKFLOW, "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore", "src"):
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target, ignore=CACHES) if source.is_dir() else shutil.copy(source, target)
    for name in ("paper.yaml", "claims.yaml"):
        (folder / "config/fsp").mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "config/fsp" / name, folder / "config/fsp")
    parameters = {"file": "config/tiny.yaml", "results": "results/tiny", **SHOWN, "plots": PLOTS}
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))
    project = settle(folder, patch)
    with Path("profiles/default/config.yaml").open("a") as profile:
        profile.write("config: [members=3]\n")  # seven nets in three jobs
    edit("src/fspkd/report/training_time.py", "SECONDS = 2, 15, 10.0", "SECONDS = 2, 15, 0.1")
    do(project, "git", "init", "--quiet")
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which `dvc repro` has made everything, although it was killed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        project = new_repository(folder, patch)
        kill(project)
        repro(project)
    return folder


@pytest.fixture
def repository(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of `finished`."""
    folder = tmp_path / "repository"
    shutil.copytree(finished, folder, symlinks=True)
    project = settle(folder, monkeypatch)
    set_remote(folder / "remote")
    return project


def set_remote(remote: Path, link: str = "copy") -> None:
    """Set where this repository pushes and pulls, and how files come from its cache, as `dvc config --local` does."""
    Path(".dvc/config.local").write_text(f"[cache]\n    type = {link}\n['remote \"local\"']\n    url = {remote}\n")


def kill(repository: Project) -> None:
    """Kill `dvc repro` while nets are trained.

    `make faults` continues at random moments until it was killed as often as KILLS in the environment says, and a report
    a quarter as often; what completes starts over.
    """
    kills, draw = int(os.environ.get("KILLS", "1")), random.Random(5)
    killed, reports_killed = 1, 0
    assert is_killed(repository, lambda: any(Path("results/runs").glob("*/*/metrics.partial.csv")), "dvc", "repro")
    while killed < kills:
        if is_killed(repository, after(draw.uniform(0, 30)), "dvc", "repro"):
            killed += 1
            continue
        while reports_killed < killed // 4:
            reports_killed += is_killed(repository, after(draw.uniform(0, 10)), *REPORT)
        shutil.rmtree("results")
    print(f"dvc repro: killed {killed} times, and {reports_killed} times in a report")


def is_killed(repository: Project, soon: Callable[[], bool], *command: str) -> bool:
    """Start a command, and kill it and all that it has started once `soon` is true; returns whether it still ran."""
    process = repository.start(*command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if soon():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.02)
    assert process.returncode == 0
    return False


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def do(project: Project, *command: str) -> str:
    result = project.run(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def repro(project: Project, *targets: str) -> tuple[set[str], set[str]]:
    """The stages that `dvc repro` runs, and the nets that it trains."""
    before = attempts(project)
    said = do(project, "dvc", "repro", *targets)
    after = attempts(project)
    stages = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    return stages, {name for name in after if after[name] != before.get(name)}


def attempts(project: Project) -> dict[str, bytes]:
    """Each finished net's manifest, which says when it was trained; nets of one job may have theirs touched."""
    runs = project.plan().runs.values()
    manifests = {run.spec.name: run.folder.manifest for run in runs}
    return {name: path.read_bytes() for name, path in manifests.items() if path.exists()}


def test_what_changed_is_made_again(repository: Project) -> None:
    """An edit that decides no bits retrains nothing; tests/unit/test_identity.py tests each of these on its own."""
    edit("src/fspkd/train/session.py", "training has diverged", "it has diverged")
    Path("src/fspkd/models/vgg.py").write_text("class Vgg: pass\n")
    optimizer = "    optimizer: OptimizerSettings\n"
    edit("src/fspkd/config/training.py", optimizer, f"{optimizer}    clip: Real | None = None\n")
    edit("src/fspkd/distill/cross_entropy.py", "Cross-entropy with", "The cross-entropy with")
    edit("src/fspkd/report/curves.py", "figsize=(8, 3.4)", "figsize=(8, 3)")
    Path("config/another.yaml").write_text("extends: tiny\nresults: results/another\nseed: 9\n")

    first_rate = repository.content["schedules"]["first"]
    repository.set("schedules.other", [{**first_rate[0], "rate": 2e-3}, first_rate[1]])
    repository.set("rows.student.stage1.schedule", "other")
    edit("src/fspkd/distill/hint.py", "return 0.5 *", "return 0.50001 *")
    stages, nets = repro(repository)
    assert stages == {"plan", "stage1", "students", *RESULTS}, "teachers differ in nothing that decides bits"
    assert nets == {"student-stage1", "student-1", "student-2", "fitnet-stage1", "fitnet-1"}

    table = Path("results/tiny/table1.csv")
    content = table.read_text()
    table.write_text(content.replace("Student", "Someone"))
    assert repro(repository) == ({"tables@table1"}, set())
    assert table.read_text() == content

    run = repository.plan().net("student/1")
    flip_a_bit(run.folder.weights)
    flip_a_bit(run.data.path)
    assert "students" in do(repository, "dvc", "status")
    run.folder.checkpoint.unlink()
    before = repository.checksums()
    stages, nets = repro(repository, "students")
    assert "data" in stages
    assert nets == {"student-1"}
    assert repository.checksums() == before

    edit("src/fspkd/engine/step.py", "self.position.add_(1)", "self.position.add_(2 - 1)")
    stages, nets = repro(repository, "students")
    assert nets == {run.spec.name for run in repository.plan().runs.values()}


def test_metrics_are_a_line_for_each_row_of_a_table(repository: Project) -> None:
    """In the table's order, with a column for each of our values; differences from a commit have a line for each number."""
    do(repository, "git", "add", ".")
    do(repository, "git", "commit", "--quiet", "--message", "results")
    table = pd.read_csv("results/tiny/table1.csv")
    ours = sorted(column for column in table.columns[1:] if not column.endswith("_published"))
    paths = [f"results/tiny/metrics/table1/{place:02} {row}.json" for place, row in enumerate(table["row"], 1)]
    heading, *lines = cells(do(repository, "dvc", "metrics", "show", "--md"))
    assert heading == ["Path", *ours]
    assert [line[0] for line in lines] == paths
    for line, (_, row) in zip(lines, table.iterrows(), strict=True):
        assert [None if cell == "-" else float(cell) for cell in line[1:]] == [
            None if pd.isna(row[column]) else row[column] for column in ours
        ]
    old = table["iterations"][1]
    edit(paths[1], f'"iterations": {old}', f'"iterations": {old + 5}')
    _, changed = cells(do(repository, "dvc", "metrics", "diff", "--md"))
    assert changed == [paths[1], "iterations", f"{old}", f"{old + 5}", "5"]


def cells(markdown: str) -> list[list[str]]:
    """The lines of a table."""
    lines = [line.strip("| ") for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith("-")]


def test_what_was_made_can_be_fetched(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    do(repository, "dvc", "push")
    do(repository, "git", "add", ".")
    do(repository, "git", "commit", "--quiet", "--message", "results")
    table = Path(TARGETS[0]).read_bytes()
    for link in ("copy", "symlink", "hardlink"):
        clone = repository.folder / link
        do(repository, "git", "clone", "--quiet", ".", str(clone))
        monkeypatch.chdir(clone)
        fetched = tiny(clone)
        set_remote(repository.folder / "remote", link)
        do(fetched, "dvc", "pull")
        assert "up to date" in do(fetched, "dvc", "status")  # as make fetch asks before it has Snakemake believe that
        with monkeypatch.context() as patch:
            patch.delenv(FOLLOWED)
            do(fetched, "snakemake", "--touch", *TARGETS)
        assert not Path("mlflow.db").exists()  # filling it would take a minute
        assert "up to date" in do(fetched, "dvc", "status")
        if link == "copy":
            check_damaged_cache(fetched)
        Path(TARGETS[0]).unlink()
        assert "1 of 1 steps (100%) done" in do(fetched, "snakemake", TARGETS[0])  # the rest is there
        assert Path(TARGETS[0]).read_bytes() == table
        monkeypatch.chdir(repository.folder)


def check_damaged_cache(fetched: Project) -> None:
    """A bit flipped in the cache is named, and only that file is fetched again."""
    weights = fetched.plan().net("teacher/1").folder.weights
    content, digest = weights.read_bytes(), hashlib.md5(weights.read_bytes()).hexdigest()
    cached = Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]
    weights.unlink()
    flip_a_bit(cached)
    cached.chmod(0o444)
    do(fetched, "dvc", "checkout", "--force")
    assert weights.read_bytes() != content
    said = do(fetched, "python", "scripts/drop_stale.py", "results/tiny")
    assert f"{weights}: not as" in said
    assert said.count("deleted") == 1
    cached.unlink()
    do(fetched, "dvc", "pull")
    assert weights.read_bytes() == content
    assert "up to date" in do(fetched, "dvc", "status")
    do(fetched, "snakemake", "--touch", *TARGETS)


@pytest.mark.parametrize(
    ("drop", "file"),
    [
        ("drop_data", "data.path"),
        ("drop_weights", "weights"),  # those of a run, which are read like pretrained ones
        ("drop_run", "weights"),
        ("drop_run", "folder.manifest"),
    ],
)
def test_what_is_damaged_is_dropped_but_not_what_cannot_be_read_now(made: Project, drop: str, file: str) -> None:
    run = made.plan().net("teacher/1")
    call, path = runpy.run_path("scripts/drop_stale.py")[drop], attrgetter(file)(run)
    what, content = run.data if drop == "drop_data" else run, path.read_bytes()
    call(what)
    for shortage, message in ((no_more_files(), "Too many open files"), (may_not_be_read(path), "Permission denied")):
        with shortage, pytest.raises((OSError, UserError), match=message):
            call(what)
        assert path.read_bytes() == content
        assert run.folder.is_finished
    flip_a_bit(path)
    call(what)
    assert not path.exists()


def test_killed_then_complete(repository: Project, tiny_results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In `finished` nothing is left to do, and its nets are the same as when trained one by one, and not killed."""
    assert repro(repository) == (set(), set())
    assert "Nothing to be done" in do(repository, "snakemake", "-n", *TARGETS)
    stages = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    assert set(stages) == {"plan", "data", "teachers", "stage1", "students", *RESULTS}
    assert len(list(Path("results/logs").glob("*.tsv"))) == 3, "one of each job that trained"
    assert list(Path("results").rglob(".*.tmp")) == []
    do(repository, *REPORT)
    assert Path("report.html").read_text().rstrip().endswith("</html>")
    with monkeypatch.context() as patch:
        expected = settle(tiny_results.parent, patch).checksums()
    assert repository.checksums() == expected
