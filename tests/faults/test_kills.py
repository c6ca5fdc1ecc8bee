"""Each step killed when it changes files, and at random moments, then repeated: the same bits, no leftovers.

`make faults` kills at every change; without KILLS in the environment it is a small, fixed share of them.
"""

import os
import random
import shutil
import time
from itertools import count
from pathlib import Path

import forks
import pytest
from conftest import REPOSITORY, Project

pytestmark = pytest.mark.usefixtures("not_followed")

EVERY = 1 if "KILLS" in os.environ else 20  # changes
METRICS = [f"metrics/table1/{row}.json" for row in ("01 Teacher", "02 FitNet, 1 loss*", "03 Student*")]
AT_RANDOM = int(os.environ.get("KILLS", "2"))  # kills of each step


def is_killed(command: tuple[str, ...], change: int = 0, seconds: float = 0) -> bool:
    """Run a script; returns whether it was killed; otherwise it must succeed."""
    status = forks.run(command, change=change, seconds=seconds)
    assert status in (0, *forks.KILLED), f"{command} hangs or fails: {status}"
    return status != 0


def files() -> dict[Path, bytes]:
    """All files by path, except what depends on timing."""
    return {file: file.read_bytes() for file in Path().rglob("*") if file.is_file() and file.name != "usage.csv"}


def restore(before: dict[Path, bytes]) -> None:
    for file in files().keys() - before.keys():
        file.unlink()
    for file, content in before.items():
        if not file.exists() or file.read_bytes() != content:
            file.write_bytes(content)


def kill_and_repeat(made: list[Path], *command: str) -> None:
    """Kill the command that makes some files, at changes and at random moments, and run it again."""
    before = files()
    start = time.monotonic()
    assert not is_killed(command)
    duration = time.monotonic() - start
    whole = files()
    draw = random.Random(str(made[0]))
    moments = ((change, 0) for change in count(2, EVERY))
    kills = {"at changes": 0, "at random": 0}

    def survives(change: int, seconds: float) -> bool:
        restore(before)
        if not is_killed(command, change, seconds):
            return False
        for file in made:
            assert not file.exists() or file.read_bytes() in (whole[file], before.get(file)), f"{file}: half-written"
        assert not is_killed(command)
        after = files()
        assert [file for file in made if after[file] != whole[file]] == []
        assert after.keys() == whole.keys(), "left-overs"
        return True

    while survives(*next(moments)):
        kills["at changes"] += 1
    while kills["at random"] < AT_RANDOM:
        kills["at random"] += survives(0, draw.uniform(0, duration))
    print(f"{command[0]}, {made[0].name}: killed {kills}")
    assert kills["at changes"], "it changes no files"


@pytest.fixture
def scripts(project: Project) -> Project:
    (project.folder / "scripts").symlink_to(REPOSITORY / "scripts")
    return project


def test_training(scripts: Project) -> None:
    """Stage 1 and stage 2, with a checkpoint after each iteration."""
    plan = scripts.plan()
    for run in (plan.net("teacher/1"), plan.net("student/1").start, plan.net("student/1")):
        command = ("scripts/train.py", "results/tiny", run.id, "--checkpoint-seconds", "0")
        kill_and_repeat(run.folder.outputs(run.spec.stage), *command)
        assert run.folder.damaged_outputs() == []


def test_packing(scripts: Project) -> None:
    data = scripts.plan().net("teacher/1").data.path
    data.unlink()
    kill_and_repeat([data], "scripts/pack.py", str(data))


@pytest.fixture
def nets(scripts: Project, tiny_results: Path) -> Project:
    """A project with its nets, which judges a claim and times nothing."""
    shutil.copytree(tiny_results / "runs", "results/runs")
    scripts.set("timings", {})
    scripts.claims_path.write_text(
        "claims: [{claim: a, where: b, compare: rows, table: table1, value: average, more: Student*, less: Teacher}]"
    )
    return scripts


def test_results(nets: Project) -> None:
    """A table, a figure, claims, pictures, and the page, each from what those before left."""
    for script, *names in (
        ("make_table", "table1.csv", "table1.md", "table1.html", "table1.tex", *METRICS),
        ("make_figure", "figure3.png", "figure3.svg", "figure3.csv", "figure3_flat.csv"),
        ("judge_claims", "claims.csv", "claims.md", "claims.html"),
        ("draw_picture", "table1.png", "table1.svg"),
        ("draw_picture", "claims.png", "claims.svg"),
        ("write_summary", "summary.html"),
    ):
        made = [Path("results/tiny") / name for name in names]
        kill_and_repeat(made, f"scripts/{script}.py", str(made[0]))
