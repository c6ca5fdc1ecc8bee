"""The workflow's jobs on a cluster: start them, wait for them, and check what they leave."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import mlflow.entities
import pandas as pd
import pytest
import yaml
from conftest import Project
from mlflow import MlflowClient

from fspkd.tracking.follow import FOLLOWED
from fspkd.train.session import is_complete

TABLE = "results/tiny/table1.csv"
ITERATIONS = 600
OFTEN = ["--seconds-between-status-checks", "1"]
PATIENCE = 240  # seconds for anything that a test waits for


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.2)


def accounted(since: float) -> pd.DataFrame:
    """The jobs submitted since then, in order: state, resources and times."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
    fields = "JobID,State,AllocTRES,Timelimit,Submit,Start,End"
    lines = slurm("sacct", "--allocations", "--parsable2", f"--starttime={start}", f"--format={fields}").splitlines()
    jobs = pd.DataFrame([line.split("|") for line in lines[1:]], columns=lines[0].split("|"))
    return jobs[jobs["Submit"] >= start]


def one_long_net(project: Project) -> None:
    """Reduce the preset to a table of one net, trained for some seconds."""
    project.set("rows", {"teacher": {**project.content["rows"]["teacher"], "nets": 1}})
    project.set("schedules.long", [{"until": ITERATIONS, "rate": 0.1}])
    project.set("training.evaluate_every", ITERATIONS // 2)
    project.set("tables.table1.rows", {"Teacher": "teacher"})
    project.set("figures", ...)
    project.set("timings", ...)
    project.set("claims", ...)


def set_site(project: Project, **settings: object) -> None:
    """Write the site's settings; checkpoints are frequent, so that tests need not take long."""
    (project.folder / "slurm" / "site.yaml").write_text(yaml.safe_dump({"checkpoint_seconds": 1, **settings}))


class Snakemake:
    """A running `snakemake --profile slurm` for the table, and its output."""

    def __init__(self, project: Project, *options: str, **environment: str) -> None:
        self.project, self.options, self.environment, self.since = project, options, environment, time.time()
        self.output = project.folder / "snakemake.log"
        self.process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        command = ["snakemake", "--profile", "slurm", TABLE, *OFTEN, *self.options]
        with self.output.open("ab") as output:
            self.process = self.project.start(
                *command, environment=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self.output.read_text()

    def until_checkpoint(self) -> None:
        """Wait until the net has a checkpoint, while a job trains on."""
        path = self.project.plan().net("teacher/1").folder.checkpoint

        def there() -> bool:
            assert self.process.poll() is None, self.said()
            return path.exists()

        wait_until(there, "there is a checkpoint")

    def job(self) -> str:
        """The number of the job that trains."""
        return slurm("squeue", "--noheader", "--states=running", "--format=%i").split()[-1]

    def end(self) -> int:
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"snakemake does not end:\n{self.said()}")
        finally:
            self.process.kill()


Reference = tuple[dict[str, str], bytes]


def processes_in(folder: Path) -> list[int]:
    """The other processes whose working directory is a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder.resolve() and int(process.name) != os.getpid():
                found.append(int(process.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def assert_sound(project: Project, reference: Reference) -> None:
    """The run is complete, has each iteration once, equals an undisturbed local run, and MLflow has what is sent."""
    run = project.plan().net("teacher/1")
    assert is_complete(run)
    assert not list(Path("results").rglob("*.tmp"))
    metrics = pd.read_csv(run.folder.metrics)
    assert list(metrics["iteration"]) == list(range(1, run.spec.iterations + 1))

    if FOLLOWED not in os.environ:
        assert_tracked_once(project, f"sqlite:///{Path('mlflow.db').absolute()}")
    assert project.checksums() == reference[0]
    assert run.folder.metrics.read_bytes() == reference[1]


def tracked_nets(address: str) -> list[mlflow.entities.Run]:
    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("fspkd-tiny")
    return client.search_runs([experiment.experiment_id], "tags.kind = 'net'") if experiment else []


def assert_tracked_once(project: Project, address: str) -> None:
    """MLflow has one run for the long net, with each iteration once."""
    (tracked,) = tracked_nets(address)
    points = MlflowClient(address).get_metric_history(tracked.info.run_id, "loss")
    iterations = project.plan().net("teacher/1").spec.iterations
    assert sorted(point.step for point in points) == list(range(1, iterations + 1))


def attempts(project: Project) -> list[dict]:
    """The attempts at the long net."""
    return project.plan().net("teacher/1").folder.read_manifest().attempts


def training_process(project: Project) -> int:
    """The number of the process that trains."""
    pattern = f"^[^ ]*python scripts/train.py results/tiny {project.plan().net('teacher/1').id}"
    (found,) = {int(n) for n in slurm("pgrep", "--full", pattern).split()} & {*processes_in(project.folder)}
    return found
