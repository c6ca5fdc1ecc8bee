"""What a SLURM site asks for, asking it before anything is submitted, and telling what the queue is doing.

Imports no torch.
"""

import getpass
import os
import shlex
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from fspkd.config import PositiveInt, Settings
from fspkd.errors import UserError
from fspkd.presets import explain, read_yaml

SITE = Path("slurm/site.yaml")
ATTEMPTS = 4  # the first and the three retries of profiles/slurm
SECONDS_BETWEEN_LOOKS = 15
SECONDS_BETWEEN_REMINDERS = 600

Text = Annotated[str, Field(min_length=1)]


class Site(Settings):
    """What jobs ask of a site besides one GPU, by the names that Snakemake's SLURM executor knows."""

    slurm_account: Text | None = None
    slurm_partition: Text | None = None
    gpu_model: Text | None = None  # as in the GRES of `sinfo -o %G`
    constraint: Text | None = None
    qos: Text | None = None
    slurm_extra: Text | None = None  # more options of sbatch
    runtime: Annotated[int, Field(ge=ATTEMPTS)] = 240  # minutes, of the last attempt
    mem_mb: PositiveInt = 8000
    checkpoint_seconds: PositiveInt = 30  # what a job that is killed may lose

    def resources(self) -> dict[str, object]:
        """The resources of a rule whose jobs need a GPU; every attempt asks for another quarter of the time."""
        given = self.model_dump(exclude_none=True)
        return {**given, "gpu": 1, "runtime": lambda wildcards, attempt: self.runtime * attempt // ATTEMPTS}

    def options(self) -> list[str]:
        """The options of sbatch for such a job, at its last attempt."""
        named = {
            "--account": self.slurm_account,
            "--partition": self.slurm_partition,
            "--constraint": self.constraint,
            "--qos": self.qos,
            "--gpus": f"{self.gpu_model}:1" if self.gpu_model else "1",
            "--time": str(self.runtime),
            "--mem": str(self.mem_mb),
        }
        given = [f"{option}={value}" for option, value in named.items() if value]
        return [*given, *shlex.split(self.slurm_extra or "")]


def load_site(path: Path = SITE) -> Site:
    """The site's settings, all defaults where the file is not there; raises UserError for what is wrong in it."""
    if not path.exists():
        return Site()
    content = read_yaml(path)
    try:
        return Site.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None


def check_site(site: Site) -> None:
    """Ask SLURM whether it would take a job; raises UserError with its answer where it would not."""
    command = ["sbatch", "--test-only", *site.options(), "--wrap=true"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            "sbatch: no such command. Start snakemake --profile slurm on a login node of a SLURM cluster."
        ) from None
    if answer.returncode:
        reason = " ".join(answer.stderr.replace("sbatch: ", "").split()) or "no reason given"
        raise UserError(
            f"{SITE}: SLURM would not take a training job: {reason}. It was asked with: {shlex.join(command[2:-1])}. "
            f"Set account, partition, GPU model and the like in that file; docs/slurm.md has examples."
        )


def watch_queue(tell: Callable[[str], None]) -> None:
    """Tell, for ever, what the jobs of this folder are doing, whenever that changes, and now and then while they wait."""
    before, told_at = "", 0.0
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        now = describe_queue()
        waited = time.monotonic() - told_at
        if now != before or ("wait" in now and waited > SECONDS_BETWEEN_REMINDERS):
            tell(now or "SLURM: no jobs in the queue")
            before, told_at = now, time.monotonic()


def describe_queue() -> str:
    """A line on the jobs of this folder: which run, which wait, and for what; empty where there are none."""
    command = ["squeue", "--user", getpass.getuser(), "--noheader", "--format=%i|%T|%r|%Z"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"SLURM: the queue cannot be asked: {error}"
    if answer.returncode:
        return f"SLURM: the queue cannot be asked: {' '.join(answer.stderr.split())}"
    jobs = defaultdict(list)
    for line in answer.stdout.splitlines():
        number, state, reason, folder = line.split("|", 3)
        if os.path.realpath(folder) == os.path.realpath("."):
            jobs[f"wait ({reason})" if state == "PENDING" else state.lower()].append(number)
    return (
        "SLURM: " + ", ".join(f"{state}: {' '.join(numbers)}" for state, numbers in sorted(jobs.items()))
        if jobs
        else ""
    )
