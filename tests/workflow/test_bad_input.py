"""Bad input, given to the commands that users type: one paragraph that names it, exit status 1, nothing half-written."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import forks
import numpy as np
import pytest
from conftest import Project, flip_a_bit
from image_folders import own_images
from PIL import Image

from fspkd.weights import save

pytestmark = pytest.mark.usefixtures("not_followed")

Damage = Callable[[Project], None]


def fails(*command: str) -> str:
    """The error of a script that must fail, its lines joined."""
    status, said = forks.said(command)
    assert status == 1, said
    errors = re.findall(r"^error: .*(?:\n.+)*", said, re.MULTILINE)
    assert len(errors) == 1
    return " ".join(errors[0].split())


def class_that_only_test_has(project: Project) -> None:
    image = own_images(project)
    other = project.folder / "images" / "test" / "cow"
    other.mkdir()
    (other / "0.png").write_bytes(image.read_bytes())


def truncated_image(project: Project) -> None:
    image = own_images(project)
    image.write_bytes(image.read_bytes()[:-100])


def mixed_sizes(project: Project) -> None:
    Image.fromarray(np.zeros((9, 7, 3), np.uint8)).save(own_images(project))


def sizes_that_do_not_pool(project: Project) -> None:
    own_images(project)
    project.set("data.images.size", 10)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (class_that_only_test_has, r"path = .images.: class folder .cow. is in test/ only"),
        (truncated_image, r"train/ant/0.png: cannot be read as an image"),
        (
            sizes_that_do_not_pool,
            r"preset '\w+': run student-stage1-\w+: images of 'mine', 10x10 pixels: feature maps of 5 and 3 .* that 4 divides",
        ),
        (mixed_sizes, r"images of mixed size: .*8x8.*7x9|images of mixed size: .*7x9.*8x8"),
    ],
)
def test_bad_images(workflow: Project, damage: Damage, message: str) -> None:
    damage(workflow)
    target = workflow.plan().data["images"].path
    assert re.search(message, fails("scripts/pack.py", str(target)))
    assert not target.exists()


def corrupted_packed_file(project: Project) -> None:
    flip_a_bit(project.plan().data["images"].path)


def checkpoint_of_another_run(project: Project) -> None:
    run = project.plan().net("teacher/1")
    save({"run": "teacher-2-0000000000", "iteration": 3}, run.folder.checkpoint)


def loss_that_becomes_nan(project: Project) -> None:
    project.set("schedules.long", [{"until": 20, "rate": 1e30}])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (corrupted_packed_file, r"error: data/packed/digits/\w+.npz: this packed data set is damaged. Delete it"),
        (
            checkpoint_of_another_run,
            r"checkpoint.pt: belongs to another run: .*'teacher-2-0000000000'.* Delete the folder",
        ),
        (
            loss_that_becomes_nan,
            r"run teacher-1-\w+: iteration \d+: the .* is (nan|inf).* at a learning rate of 1e\+30",
        ),
    ],
)
def test_bad_trainings(workflow: Project, damage: Damage, message: str) -> None:
    damage(workflow)
    run = workflow.plan().net("teacher/1")
    assert re.search(message, fails("scripts/train.py", "results/tiny", run.id))
    assert not run.folder.weights.exists()
    assert not run.folder.manifest.exists()


def test_bad_commands(workflow: Project) -> None:
    assert "'no-such-run': preset 'tiny' has no such run" in fails("scripts/train.py", "results/tiny", "no-such-run")
    assert "results/tny: no preset in config/ writes there" in fails("scripts/train.py", "results/tny", "x")
    packed = workflow.plan().data["images"].path
    told = f"{packed}x: no preset in config/ has such data or weights; did you mean '{packed}'?"
    assert told in fails("scripts/pack.py", f"{packed}x")
    training = ("scripts/train.py", "results/tiny", workflow.plan().net("teacher/1").id)
    assert "--threads = 0: must be 1 or more" in fails(*training, "--threads", "0")
    for script, file in (("make_table", "table9.csv"), ("make_figure", "table1.png"), ("measure_timing", "table1.csv")):
        assert f"results/tiny/{file}: " in fails(f"scripts/{script}.py", f"results/tiny/{file}")
    for script, file in (
        ("make_figure", "figure3.png"),
        ("judge_claims", "claims.csv"),
        ("write_summary", "summary.html"),
    ):
        message = fails(f"scripts/{script}.py", f"results/tiny/{file}")
        assert "snakemake results/" in message
    assert "--device = 'toaster'" in fails(*training, "--device", "toaster")
    workflow.set("claims", ...)
    assert "preset 'tiny': has no claims" in fails("scripts/judge_claims.py", "results/tiny/claims.csv")
    result = workflow.run("snakemake", "-n", "--config", "members=0")
    assert result.returncode == 1
    assert "--config members=0: must be a whole number, 1 or more" in result.stdout + result.stderr
    result = workflow.run("snakemake", "-n", "--config", "member=3")
    assert result.returncode == 1
    assert "--config member: unknown key; the only one is members" in result.stdout + result.stderr


def test_full_standard_output_stops_no_training_and_is_told(workflow: Project) -> None:
    workflow.pack()
    runs = [run.id for run in workflow.plan().nets("teacher")]
    with Path("/dev/full").open("w") as full:
        trained = workflow.start("python", "scripts/train.py", "results/tiny", *runs, stdout=full)
        assert trained.wait(120) == 0
        workflow.set("claims", None)
        workflow.set("tables.table1.rows", {"Teacher": "teacher"})
        command = ("python", "scripts/make_table.py", "results/tiny/table1.csv")
        table = workflow.start(*command, stdout=full, stderr=subprocess.PIPE, text=True)
        told = table.communicate()[1]
    assert table.returncode == 1
    assert told.startswith("error: a file, or standard output: No space left on device. Free some space")
    assert told.count("\n") == 2  # lines of one paragraph


def test_too_little_memory_is_told(workflow: Project) -> None:
    workflow.pack()
    command = f"ulimit -v 2000000; python scripts/train.py results/tiny {workflow.plan().net('teacher/1').id}"
    result = workflow.run("bash", "-c", command)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "there is not enough memory" in " ".join(result.stderr.split())


WITHOUT_BFLOAT16 = """
import runpy, sys, torch
torch.cpu._is_avx512_bf16_supported = lambda: False
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_precision_that_a_processor_lacks_is_refused_where_the_preset_says_so(workflow: Project) -> None:
    workflow.set("training.precision", "bfloat16")
    workflow.set("without_bfloat16", "refuse")
    Path("without.py").write_text(WITHOUT_BFLOAT16)
    run = workflow.plan().net("teacher/1")
    message = fails("without.py", "scripts/train.py", "results/tiny", run.id, "--device", "cpu")
    assert f"run {run.id}: training.precision = 'bfloat16'" in message
    assert not run.folder.path.exists()
