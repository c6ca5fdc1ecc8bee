"""What causes nets to be retrained, as `dvc repro` sees it: by what write_plan.py writes for each run."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, Project, edit

from fspkd import provenance
from fspkd.errors import UserError
from fspkd.plans import load_plans
from fspkd.provenance import code_files, effective
from fspkd.runs.folder import PHASES

EVERYTHING = {
    "teacher-1", "teacher-2", "fitnet-stage1", "fitnet-1", "student-stage1", "student-1", "student-2", "other-1"
}  # fmt: skip
SESSION, STEP, HINT = "src/fspkd/train/session.py", "src/fspkd/engine/step.py", "src/fspkd/distill/hint.py"
CIFAR, IMAGENET = "src/fspkd/models/cifar_resnet.py", "src/fspkd/models/imagenet_resnet.py"


NAMES = {  # a change of any setting of the papers' presets that decides a net's outcome changes one of these
    "results": """
        fitnet_1_loss-1-2b7796d34c fitnet_3_losses-3-b3941d0a01 fitnet_cifar100-1-143b8036ab
        fitnet_cub200-1-4c6150866e kd_third-1-8f8a738c75 plain_both_stages-1-06ae6287d6 small_alone-1-a1310d39ff
        small_alone_cifar100-1-4e67ddcc11 small_fitnet-1-09f683dac9 small_fitnet_cifar100-1-6fe3ec7f2f
        small_kd-1-e93db10097 small_plain_both_stages-1-9b6e5188d5 small_plain_same_time-1-273a903246
        small_student-1-211cb361fe small_student_cifar100-1-d0e5210a1a student-1-e4ba3d25ed student-stage1-093c533370
        student_cifar100-1-23dcebba3d student_cub200-1-356715a006 student_each-1-dc74589a3a student_full-1-8236b2d0c5
        student_own_stage1-1-8f258c7495 student_scratch_cub200-1-016c7e2af5 student_shuffled-1-0223870131
        student_shuffled-2-stage1-f5585df491 teacher-1-3d982bd840 teacher_again-1-905c72a79f
        teacher_scratch_cub200-1-9b3079de9a teacher_slowly_cub200-1-6d17747955 teacher_third-1-32f6e90745
        teacher_third_cifar100-1-559afc9fe8
    """,
    "results/fitnets": """
        bp11_107m-1-4be675f512 bp11_30m-1-9313fd1a89 bp5_107m-1-9d4a105446 bp5_30m-1-d555c8cc5f bp7_107m-1-ac4b8b3946
        bp7_30m-1-c633d88cdd bp9_107m-1-e14691c2fb bp9_30m-1-04f46b3f26 fitnet1-1-c0f05915f0 fitnet2-1-5d081c3a86
        fitnet3-1-4ad85464dd fitnet4-1-75ad694f0e fitnet_cifar100-1-06a0f0f561 fitnet_svhn-1-430e2b5c34
        ht11_107m-1-80cad2b37c ht11_30m-1-a56eaa3e34 ht5_107m-1-1e221545d6 ht5_30m-1-5c08882c1d ht7_107m-1-45b8db6586
        ht7_30m-1-a858d641b2 ht9_107m-1-00b80637dc ht9_30m-1-4053583659 kd11_107m-1-2ac58ce14e kd11_30m-1-cf4bf8811c
        kd5_107m-1-bc8a74d88a kd5_30m-1-0df959f3b1 kd7_107m-1-c01c0acd72 kd7_30m-1-8ce2b38d20 kd9_107m-1-dbaea6c72a
        kd9_30m-1-d9ebe46feb mnist_bp-1-971bb4f4a1 mnist_fitnet-1-21d0ef038c mnist_kd-1-d871ae7251
    """,
    "results/quickstart": """
        teacher-2-bd1cec30e8 small_student-1-f082ba7ad7
    """,
}


@pytest.fixture
def copied(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a copy of the package and scripts, and a row of another architecture."""
    for name in ("src", "scripts"):
        shutil.copytree(REPOSITORY / name, name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    monkeypatch.setenv("PYTHONPATH", str(Path("src").absolute()))
    project.content["networks"]["other"] = {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4}
    row = {"data": "images", "network": "other", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    project.set("rows.other", row)
    project.set("tables.others", {"title": "Others", "rows": {"Other": "other"}})
    return project


@pytest.fixture(scope="module")
def known() -> dict[str, dict]:
    """What `decided` gives before any change, cached: it is the same for all tests."""
    return {}


@pytest.fixture
def before(copied: Project, known: dict[str, dict]) -> dict[str, tuple[str, dict]]:
    """What `decided` gives before a change."""
    if not known:
        known |= decided(copied)
    return known


def decided(project: Project) -> dict[str, tuple[str, dict]]:
    """The id of each run, and all that decides it, by the run's name."""
    result = project.run("python", "scripts/write_plan.py", "results/tiny")
    assert result.returncode == 0, result.stderr
    phases = [yaml.safe_load(Path(f"results/tiny/plan/{phase}.yaml").read_text()) for phase in PHASES]
    return {run.rsplit("-", 1)[0]: (run, content) for phase in phases for run, content in phase.items()}


def new_architecture() -> None:
    Path("src/fspkd/models/vgg.py").write_text("class Vgg: pass\n")


def another_preset() -> None:
    Path("config/another.yaml").write_text("extends: tiny\nresults: results/another\nseed: 9\n")


NOTHING = {
    "an error message of what saves and resumes": partial(edit, SESSION, "training has diverged", "it has diverged"),
    "another file in models/": new_architecture,
    "a new optional setting": partial(
        edit,
        "src/fspkd/config/training.py",
        "    optimizer: OptimizerSettings\n",
        "    optimizer: OptimizerSettings\n    clip: Real | None = None\n",
    ),
    "a docstring of another method": partial(
        edit, "src/fspkd/distill/kd.py", "Cross-entropy with", "The cross-entropy with"
    ),
    "a docstring and a comment of the engine": partial(
        edit, STEP, '"""Iterations on', '# on the host\n"""All iterations on'
    ),
    "a comment of C++": partial(edit, "src/fspkd/models/kernels.cpp", "// NaN stays", "// so that NaN stays"),
    "an error message of the engine": partial(
        edit, "src/fspkd/engine/batches.py", "the images have", "these images have"
    ),
    "a figure": partial(edit, "src/fspkd/report/curves.py", "figsize=(8, 3.4)", "figsize=(8, 3)"),
    "a table": partial(edit, "src/fspkd/report/tables.py", 'label=f"tab:', 'label=f"table:'),
    "another preset": another_preset,
}
SOMETHING = {
    "a line of what all starts share": (
        partial(
            edit, "src/fspkd/engine/start.py", "net.load_state_dict({**state", "net.load_state_dict({**kept, **state"
        ),
        EVERYTHING,
    ),
    "a line of what builds nets": (
        partial(edit, "src/fspkd/models/__init__.py", "shape, classes, g", "classes, classes, g"),
        EVERYTHING,
    ),
    "a line of what builds optimizers": (
        partial(
            edit,
            "src/fspkd/engine/optimizers/__init__.py",
            "module.build(settings, modules",
            "module.build(settings, None",
        ),
        EVERYTHING,
    ),
    "a line of the engine": (partial(edit, STEP, "self.position.add_(1)", "self.position.add_(2)"), EVERYTHING),
    "a line of a method": (partial(edit, HINT, "return 0.5 *", "return 0.4 *"), {"fitnet-stage1"}),
    "a line of a network": (partial(edit, IMAGENET, "nn.MaxPool2d(3, 2, 1)", "nn.MaxPool2d(2, 2)"), {"other-1"}),
    "a line of another network": (partial(edit, CIFAR, "self.bn2(y, x)", "self.bn2(y)"), EVERYTHING - {"other-1"}),
    "a line of C++": (partial(edit, "src/fspkd/models/kernels.cpp", "ROWS = 32", "ROWS = 64"), EVERYTHING),
    "a line of an optimizer": (
        partial(edit, "src/fspkd/engine/optimizers/sgd.py", "dampening=0.0", "dampening=0.1"),
        EVERYTHING,
    ),
}


@pytest.mark.parametrize("change", NOTHING)
def test_what_decides_no_bits_renames_and_retrains_nothing(
    copied: Project, before: dict[str, tuple[str, dict]], change: str
) -> None:
    assert before.keys() == EVERYTHING
    NOTHING[change]()
    assert decided(copied) == before


def test_results_of_settings_that_return_are_made_again(copied: Project) -> None:
    """By DVC, which compares these files: the nets are there already, and so is a table, but of other settings."""
    decided(copied)
    plan = Path("results/tiny/plan")
    before = {kind: yaml.safe_load((plan / f"{kind}.yaml").read_text()) for kind in ("tables", "figures", "timings")}
    copied.set("rows.student.stage1.weight", 9)
    decided(copied)
    for kind, entries in before.items():
        after = yaml.safe_load((plan / f"{kind}.yaml").read_text())
        assert after.keys() == entries.keys()
        for name, entry in entries.items():
            assert (after[name] != entry) == any(run.startswith("student") for run in entry["runs"])
            assert {**after[name], "runs": entry["runs"]} == entry


@pytest.mark.parametrize("change", SOMETHING)
def test_code_that_decides_bits_retrains_what_it_decides_and_renames_nothing(
    copied: Project, before: dict[str, tuple[str, dict]], change: str
) -> None:
    make, expected = SOMETHING[change]
    make()
    after = decided(copied)
    assert {name for name in after if after[name] != before[name]} == expected
    assert {name: run for name, (run, _) in after.items()} == {name: run for name, (run, _) in before.items()}


HELPED = {"engine/step.py": "", "engine/optimizers/sgd.py": "", "distill/helpers.py": "def f(): return 1"}


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a method, in a package with some helpers."""
    package = tmp_path / "fspkd"
    for name, source in HELPED.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return package / "distill/mine.py"


@pytest.mark.parametrize(
    "line",
    [
        "from fspkd.distill.helpers import f",
        "from fspkd.distill import helpers",
        "import fspkd.distill.helpers",
        "import numpy, fspkd.distill.helpers as helpers",
    ],
)
def test_code_that_a_method_imports_is_a_part_of_it(method: Path, line: str) -> None:
    method.write_text(f"def loss():\n    {line}\n")
    assert code_files((), "mine", "sgd")["method"] == [method.with_name("helpers.py"), method]


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("from .helpers import f", "from fspkd.distill.helpers import"),
        ("from . import helpers", "from fspkd.distill import"),
        ("from ..distill.helpers import f", "from fspkd.distill.helpers import"),
    ],
)
def test_relative_imports_are_refused_which_checksums_would_miss(method: Path, line: str, instead: str) -> None:
    method.write_text(f"import numpy\n{line}\n")
    with pytest.raises(UserError, match=rf"distill/mine.py: line 2: a relative import.* Write: {instead} \.\.\.$"):
        code_files((), "mine", "sgd")


def test_names_of_runs_are_what_they_have_been(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings have taken days, so a change that renames runs is a serious one."""
    monkeypatch.chdir(REPOSITORY)
    for variable in [name for name in os.environ if name.startswith(("FSPKD_DATA_", "FSPKD_WEIGHTS_"))]:
        monkeypatch.delenv(variable)
    plans, _ = load_plans(only=NAMES)
    changed = {name for results, names in NAMES.items() for name in names.split() if name not in plans[results].runs}
    assert not changed


def test_presets_share_their_nets(project: Project) -> None:
    """Only what a preset adds is trained for it."""
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    child = {"extends": "tiny", "results": "results/child", "rows": {"short": row}}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    tiny, more = load_plans()[0].values()
    assert more.runs.keys() - tiny.runs.keys() == {more.net("short/1").id}
    assert {run.folder for run in tiny.runs.values()} <= {run.folder for run in more.runs.values()}


def test_effective_code_is_what_is_left_of_comments_docstrings_and_raises() -> None:
    source = '''"""A module."""
import os  # why

class A(Settings):
    """A class."""

    size: int = 1
    """what it is"""

    def f(self, x: str = "ä") -> str:
        # a comment
        if x:
            raise ValueError(  # another
                f"{x}: #1"
            )
        return "# no comment"
'''
    left = ["import os", "class A(Settings):", "    size: int = 1", '    def f(self, x: str = "ä") -> str:']
    assert effective(source).splitlines() == [*left, "        if x:", '        return "# no comment"']
    assert effective("x = 'a\x0cb' # hi\n") == "x = 'a\x0cb'"  # a form feed ends no line
