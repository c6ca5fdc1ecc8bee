"""A project in a temporary folder: a tiny preset on the digits that trains in seconds."""

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Tests' servers are on this machine, so no proxy may be used for them.
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"
# The wait at a command's end: machines may be slow, and tests check all that was sent.
os.environ.setdefault("FSPKD_MLFLOW_SECONDS", "300")

import pytest
import torch
import yaml
from image_folders import read_source
from servers import Server

from fspkd.config.load import load_preset
from fspkd.data.packed import load_packed, save_packed
from fspkd.data.sets import DataSet
from fspkd.engine.batches import Images
from fspkd.plan import Plan
from fspkd.report import tables
from fspkd.runs.spec import Run
from fspkd.tracking.follow import FOLLOWED

if TYPE_CHECKING:
    from selenium import webdriver

pytest.register_assert_rewrite("jobs", "sent")  # these assert for several tests

REPOSITORY = Path(__file__).parent.parent
WORKFLOW = ("Snakefile", "workflow", "scripts", "profiles")

TINY = {
    "results": "results/tiny",
    "seed": 1,
    "data": {"images": {"name": "digits", "source": "digits", "augment": {"pad": 1, "flip": True}}},
    "networks": {"net": {"architecture": "cifar_resnet", "depth": 8, "width": 4}},
    "schedules": {
        "long": [{"until": 12, "rate": 0.1}, {"until": 20, "rate": 0.01}],
        "short": [{"until": 8, "rate": 0.05}],
        "first": [{"until": 6, "rate": 1e-3}, {"until": 10, "rate": 1e-4}],
    },
    "training": {
        "batch_size": 32,
        "evaluate_every": 5,
        "optimizer": {"algorithm": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "decay_batchnorm": True},
    },
    "rows": {
        "teacher": {
            "data": "images",
            "network": "net",
            "nets": 2,
            "stage2": {"method": "cross_entropy", "schedule": "long"},
        },
        "fitnet": {
            "data": "images",
            "network": "net",
            "nets": 1,
            "stage1": {"method": "hint", "teacher": "teacher/1", "schedule": "first", "sections": [1, 2]},
            "stage2": {"method": "kd", "teacher": "teacher/1", "schedule": "short"},
        },
        "student": {
            "data": "images",
            "network": "net",
            "nets": 2,
            "stage1": {"method": "fsp", "teacher": "teacher/1", "schedule": "first"},
            "stage2": {"method": "cross_entropy", "schedule": "short"},
        },
    },
    "tables": {
        "table1": {
            "title": "A tiny table",
            "reference": "fsp/reference/table1_cifar10.csv",
            "rows": {"Teacher": "teacher", "FitNet, 1 loss*": "fitnet", "Student*": "student"},
        }
    },
    "figures": {
        "figure3": {"kind": "curves", "title": "A tiny figure", "curves": {"Teacher": "teacher", "Student": "student"}}
    },
    "timings": {
        "timing": {
            "kind": "training_time",
            "reference": "fsp/reference/timing.csv",
            "teachers": "teacher",
            "students": "student",
            "shuffled_students": "student",
        }
    },
    "claims": "tiny/claims.yaml",
}
CLAIMS = [
    {"compare": "rows", "table": "table1", "value": "average", "more": "Student*", "less": "Teacher"},
    {"compare": "rows", "table": "table1", "value": "gain", "more": "Student*", "less": "Teacher"},
    {
        "compare": "figure",
        "figure": "figure3",
        "measure": "training loss",
        "later": "Teacher",
        "earlier": "Student",
        "published": 3,
        "more_than": 2,
    },
    {
        "compare": "timing",
        "timing": "timing",
        "what": "speed-up of Student* over Teacher, on the fly",
        "tolerance": 0.05,
    },
]


class Project:
    """A folder with config/tiny.yaml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.preset_path = folder / "config" / "tiny.yaml"
        references = "config/fsp/reference"
        shutil.copytree(REPOSITORY / references, folder / references, dirs_exist_ok=True)
        self.content = copy.deepcopy(TINY)
        claims = [{"claim": f"claim {n}", "where": "here", **claim} for n, claim in enumerate(CLAIMS, 1)]
        self.claims_path = folder / "config" / "tiny" / "claims.yaml"
        self.claims_path.parent.mkdir(exist_ok=True)
        self.claims_path.write_text(yaml.safe_dump({"claims": claims}))
        self.write()

    def set(self, key: str, value: object) -> None:
        """Change one dotted key of the preset; the value ... removes it."""
        *path, last = key.split(".")
        place = self.content
        for part in path:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        self.write()

    def write(self) -> None:
        self.preset_path.write_text(yaml.safe_dump(self.content, sort_keys=False, allow_unicode=True))

    def plan(self, environment: dict[str, str] | None = None) -> Plan:
        return Plan(load_preset(self.preset_path), environment or {})

    def pack(self) -> None:
        """Pack the data sets of the preset as it is now."""
        for data in self.plan().data.values():
            save_packed(read_source(data), data.path)

    def train(self, *references: str, device: str = "cpu", replicate: int = 1) -> None:
        """Train nets, and what they need, in this process."""
        from fspkd.train.loop import train

        plan = self.plan()

        def make(run: object) -> None:
            for other in (run.start, run.teacher):
                if isinstance(other, Run):
                    make(other)
            train([run], torch.device(device), 1000, plan.preset.name)

        for reference in references:
            make(plan.net(reference, replicate))

    def checksums(self) -> dict[str, str]:
        """The weights' checksums of all finished runs."""
        runs = [run for run in self.plan().runs.values() if run.folder.is_finished]
        return {run.id: run.folder.read_manifest().weights_sha256 for run in runs}

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a command of this environment in the project's folder."""
        process = self.start(
            *command, environment=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def start(self, *command: str, environment: dict[str, str] | None = None, **options: object) -> subprocess.Popen:
        """Start a command; `options` are Popen's."""
        paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {**os.environ, "PATH": paths, **(environment or {})}
        return subprocess.Popen(command, cwd=self.folder, env=variables, **options)


def die_at(iteration: int, patch: pytest.MonkeyPatch) -> None:
    """Make trainings in this process save their state and end, as on Ctrl-C, once they have recorded an iteration."""
    from fspkd.train.session import Session

    record = Session.record

    def record_and_die(session: Session, values: list) -> tuple:
        result = record(session, values)
        if session.member.done == iteration:
            session.save()
            raise KeyboardInterrupt
        return result

    patch.setattr(Session, "record", record_and_die)


def edit(path: Path | str, old: str, new: str) -> None:
    """Replace text in a file."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)  # DVC makes files read-only
    path.write_bytes(content)


def images_of(run: Run) -> Images:
    return Images(load_packed(run.data.path), run.spec.augment, torch.device("cpu"))


@pytest.fixture(scope="session")
def packed_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set of the tiny preset."""
    from fspkd.config.data import Digits

    data = DataSet(Digits(name="digits", source="digits"), None)
    path = tmp_path_factory.mktemp("packed") / data.path.name
    save_packed(read_source(data), path)
    return path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed_digits: Path) -> Project:
    """A project in the working directory, its data packed."""
    return project_in(tmp_path, packed_digits, monkeypatch)


def project_in(folder: Path, packed: Path, patch: pytest.MonkeyPatch) -> Project:
    """A project in a folder, which becomes the working directory, with its data packed."""
    patch.chdir(folder)
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    torch.set_num_threads(1)
    (folder / "data/packed/digits").mkdir(parents=True)
    shutil.copy(packed, folder / "data/packed/digits")
    return Project(folder)


@pytest.fixture
def not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run by hand send nothing to MLflow, which would cost each some seconds."""
    monkeypatch.setenv(FOLLOWED, "1")


@pytest.fixture
def workflow(project: Project) -> Project:
    """`project` with the Snakefile, rules, scripts and profile."""
    for name in WORKFLOW:
        source, target = REPOSITORY / name, project.folder / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return project


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory: pytest.TempPathFactory, packed_digits: Path) -> Path:
    """Results of the tiny preset: nets, table and figure."""
    from fspkd.report import figures

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        project = project_in(folder, packed_digits, patch)
        project.train("teacher/2", "fitnet/1", "student/1", "student/2")
        plan = project.plan()
        tables.write(plan, "table1")
        figures.write(plan, "figure3")
    return folder / "results"


@pytest.fixture
def made(workflow: Project, tiny_results: Path) -> Project:
    """A project with its nets, table and figure."""
    shutil.copytree(tiny_results, "results")
    return workflow


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, which takes seconds to make."""
    from fspkd.tracking.store import _make_local

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    _make_local(path)
    return path


@pytest.fixture
def store(tmp_path: Path, empty_store: Path) -> Path:
    """The local store, before any run is in it."""
    return Path(shutil.copy(empty_store, tmp_path))


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[Server]:
    """A tracking server with a store of its own."""
    folder = tmp_path / "server"
    folder.mkdir(exist_ok=True)
    shutil.copy(empty_store, folder)
    running = Server(folder)
    running.start()
    yield running
    running.kill()
    running.listener.close()


@pytest.fixture
def browser() -> Iterator["webdriver.Chrome"]:
    """A headless Chromium."""
    from selenium import webdriver

    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
    ):
        options.add_argument(argument)
    chrome = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield chrome
    chrome.quit()
