"""The examples in docs/methods.md, copied from it and run."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, Project
from PIL import Image

pytestmark = pytest.mark.usefixtures("not_followed")
FILES = dict(
    re.findall(r"<!-- (\S+) -->\n\n```\w+\n(.*?)```", (REPOSITORY / "docs" / "methods.md").read_text(), re.DOTALL)
)


@pytest.fixture
def clone(workflow: Project) -> Project:
    """A folder with all that a clone needs to make results, and the files of the page; a tenth of their iterations."""
    for name in ("src", "config"):
        shutil.copytree(REPOSITORY / name, workflow.folder / name, dirs_exist_ok=True)
    for path, text in FILES.items():
        (workflow.folder / path).write_text(text)
    networks = workflow.folder / "src/fspkd/networks/__init__.py"
    text = networks.read_text().replace("CifarNetwork | ", "CifarNetwork | SmallNetwork | ")
    networks.write_text(f"from fspkd.networks.small_resnet import SmallNetwork\n{text}")
    with (workflow.folder / "profiles/default/config.yaml").open("a") as profile:
        profile.write("config: [members=4]\n")
    for paper, data in (("fsp", "cifar10"), ("fitnets", "mnist")):
        quickstart = workflow.folder / "config" / paper / "quickstart.yaml"
        quickstart.write_text(re.sub(rf"(\b{data}: \d+)([,}}])", r"\g<1>0\2", quickstart.read_text()))
    return workflow


def make(clone: Project, *targets: str) -> str:
    """Make targets with the code of the clone; returns what Snakemake prints."""
    result = clone.run("snakemake", *targets, PYTHONPATH=str(clone.folder / "src"))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


OWN = """
extends: {extends}
results: results/{name}
shows: [{table}]
data:
  cifar10: {{name: flowers, source: imagefolder, path: flowers, augment: {{pad: 1, flip: true}}}}
"""
HINTS = """
tables:
  hints: {title: Hints on flowers, rows: {Teacher: teacher/1, Hint: small_fitnet}}
"""


def test_each_example_runs_and_a_teacher_is_trained_once(clone: Project) -> None:
    """The method on the quickstart's images, own images, the method on them; networks, hints; torchvision's and own nets."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 70), ("test", 10)):
        for label in range(2):
            folder = clone.folder / "flowers" / split / str(label)
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    config = clone.folder / "config"
    (config / "own.yaml").write_text(OWN.format(name="own", extends="fsp/quickstart", table="hints") + HINTS)
    (config / "both.yaml").write_text(OWN.format(name="both", extends="similarity", table="similarity"))
    mobile = FILES["config/mobile.yaml"]
    assert mobile.count("\n") <= 25
    for long, short in (("until: 60", "until: 6"), ("until: 80", "until: 8")):
        mobile = mobile.replace(long, short)
    (config / "mobile.yaml").write_text(mobile)

    made = "similarity/similarity own/hints both/similarity thin/thin mobile/mobile resnet18/resnet18"
    tables = [f"results/{name}.csv" for name in made.split()]
    make(clone, *tables)
    _, own, both, thin, mobile, resnet18 = (pd.read_csv(clone.folder / table, index_col="row") for table in tables)
    assert own["accuracy"]["Teacher"] == both["accuracy"]["Teacher"]
    teachers = [path.name for path in (clone.folder / "results/runs/teachers").glob("teacher-1-*")]
    assert len(teachers) == 2, "one on digits and one on flowers"
    assert list(thin.index) == ["Teacher", "Thin"]
    assert list(mobile["iterations"]) == [8, 16]
    assert list(resnet18["iterations"]) == [32]
    summaries = (f"results/{name}/summary.html" for name in ("own", "both"))
    assert "train_" not in make(clone, "-n", *summaries), "of what extends a preset only what it shows is made"
