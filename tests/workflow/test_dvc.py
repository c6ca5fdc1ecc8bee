"""`dvc repro` on the tiny preset: what changed is made again, what was made can be fetched."""

import hashlib
import os
import shutil
import signal
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, Project

from fspkd.tracking.follow import FOLLOWED

pytestmark = pytest.mark.usefixtures("not_followed")
TARGETS = ("results/tiny/summary.html",)
PLOTS = {name: {"results/tiny/figure3.csv": [f"Teacher: {name}"]} for name in ("accuracy", "loss")}
RESULTS = {"tables@table1", "figures@figure3", "timings@timing", "claims@claims", "summary"}


@pytest.fixture
def repository(workflow: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A git and DVC repository with the package's source in it."""
    shutil.rmtree("data")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, name)
    for name in (".dvc/config", ".dvc/.gitignore", "config/fsp/paper.yaml", "config/fsp/claims.yaml"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, name)
    shutil.copytree(REPOSITORY / "src", "src", ignore=shutil.ignore_patterns("__pycache__"))
    shown = {"tables": ["table1"], "figures": ["figure3"], "timings": ["timing"], "claims": ["claims"]}
    parameters = {"preset": "tiny", "file": "config/tiny.yaml", "results": "results/tiny", **shown, "plots": PLOTS}
    Path("params.yaml").write_text(yaml.safe_dump(parameters))
    monkeypatch.setenv("PYTHONPATH", str(Path("src").absolute()))
    for variable in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{variable}_NAME", "test")
        monkeypatch.setenv(f"{variable}_EMAIL", "test@example.org")
    do(workflow, "git", "init", "--quiet")
    do(workflow, "dvc", "config", "--local", "remote.local.url", str(workflow.folder / "remote"))
    return workflow


def do(project: Project, *command: str) -> str:
    result = project.run(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def repro(project: Project) -> tuple[set[str], set[str]]:
    """The stages that `dvc repro` runs, and the nets that it trains."""
    before = attempts(project)
    said = do(project, "dvc", "repro")
    after = attempts(project)
    stages = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")}
    return stages, {stream for stream in after if after[stream] != before.get(stream)}


def attempts(project: Project) -> dict[str, int]:
    """When each net of the plan was finished, by its manifest's time of change."""
    runs = project.plan().runs.values()
    manifests = {run.spec.name: run.folder.manifest for run in runs}
    return {stream: path.stat().st_mtime_ns for stream, path in manifests.items() if path.exists()}


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_what_changed_is_made_again(repository: Project) -> None:
    stages, nets = repro(repository)
    assert stages == {"plan", "data", "teachers", "stage1", "students", *RESULTS}
    assert nets == {run.spec.name for run in repository.plan().runs.values()}
    assert repro(repository) == (set(), set())
    assert "Nothing to be done" in do(repository, "snakemake", "-n", *TARGETS)

    first_rate = repository.content["schedules"]["first"]
    repository.set("schedules.other", [{**first_rate[0], "rate": 2e-3}, first_rate[1]])
    repository.set("rows.student.stage1.schedule", "other")
    stages, nets = repro(repository)
    assert stages == {"plan", "stage1", "students", *RESULTS}
    assert nets == {"student-stage1", "student-1", "student-2"}

    edit("src/fspkd/results/curves.py", "figsize=(8, 3.4)", "figsize=(8, 3)")
    assert repro(repository) == ({"plan", *RESULTS}, set())

    edit("src/fspkd/distill/hint.py", "return 0.5 *", "return 0.50001 *")
    stages, nets = repro(repository)
    assert "teachers" not in stages
    assert "fitnet-stage1" in nets
    assert not {"teacher-1", "teacher-2", "student-stage1", "student-1", "student-2"} & nets

    run = repository.plan().net("student/1")
    flip_a_byte(run.folder.weights)
    assert "students" in do(repository, "dvc", "status")
    run.folder.checkpoint.unlink()
    before = repository.checksums()
    stages, nets = repro(repository)
    assert nets == {"student-1"}
    assert repository.checksums() == before
    flip_a_byte(repository.plan().net("teacher/1").data.path)
    stages, nets = repro(repository)
    assert "data" in stages
    assert not nets


def test_what_was_made_can_be_fetched(repository: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    do(repository, "dvc", "repro")
    do(repository, "dvc", "push")
    do(repository, "git", "add", ".")
    do(repository, "git", "commit", "--quiet", "--message", "results")
    table = Path(TARGETS[0]).read_bytes()
    for link in ("copy", "symlink", "hardlink"):
        clone = repository.folder / link
        do(repository, "git", "clone", "--quiet", ".", str(clone))
        monkeypatch.chdir(clone)
        fetched = Project(clone)
        do(fetched, "dvc", "config", "--local", "remote.local.url", str(repository.folder / "remote"))
        do(fetched, "dvc", "config", "--local", "cache.type", link)
        do(fetched, "dvc", "pull")
        with monkeypatch.context() as patch:
            patch.delenv(FOLLOWED)
            do(fetched, "snakemake", "--touch", *TARGETS)
        assert not Path("mlflow.db").exists()  # which would take a minute to fill
        assert "Nothing to be done" in do(fetched, "snakemake", "-n", *TARGETS)
        assert "up to date" in do(fetched, "dvc", "status")
        if link == "copy":
            check_damaged_cache(fetched)
        Path(TARGETS[0]).unlink()
        said = do(fetched, "snakemake", TARGETS[0])
        assert "train results" not in said
        assert Path(TARGETS[0]).read_bytes() == table
        monkeypatch.chdir(repository.folder)


def check_damaged_cache(fetched: Project) -> None:
    """A byte flipped in the cache is named, and just that file is fetched again."""
    weights = fetched.plan().net("teacher/1").folder.weights
    content, digest = weights.read_bytes(), hashlib.md5(weights.read_bytes()).hexdigest()
    cached = Path(".dvc/cache/files/md5") / digest[:2] / digest[2:]
    weights.unlink()
    flip_a_byte(cached)
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


def test_killed_in_the_middle_then_complete(repository: Project) -> None:
    process = repository.start("dvc", "repro", start_new_session=True)
    net = repository.plan().net("teacher/1").folder
    while not list(net.glob("metrics*")):
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stages, _ = repro(repository)
    assert {"teachers", "stage1", "students", *RESULTS} <= stages
    assert repro(repository) == (set(), set())
    assert set(repository.checksums()) == set(repository.plan().runs)
