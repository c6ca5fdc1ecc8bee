"""What the jobs of this folder are doing in SLURM's queue."""

import getpass
import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable

from fspkd.slurm.site import SITE

SECONDS_BETWEEN_LOOKS = 20
SECONDS_BETWEEN_REMINDERS = 600
QUEUE = "SLURM: "  # before what is said about the queue
OWN_JOB = os.environ.get("SLURM_JOB_ID")  # that this process runs in; Snakemake's executor removes the variable


class QueueError(Exception):
    """SLURM has not answered."""


def watch_queue(tell: Callable[[str], None]) -> None:
    """Report, for ever, what the jobs of this folder are doing, whenever that changes, and now and then while they wait."""
    before, told_at = "", 0.0
    while True:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        now = describe_queue()
        waited = time.monotonic() - told_at
        if now != before or ("wait" in now and waited > SECONDS_BETWEEN_REMINDERS):
            tell(now or f"{QUEUE}no jobs in the queue")
            before, told_at = now, time.monotonic()


def describe_queue() -> str:
    """A line on the jobs of this folder: which run, which wait, and for what; empty if there are none."""
    try:
        jobs = own_jobs()
    except QueueError as error:
        return f"{QUEUE}the queue cannot be queried: {error}"
    states = [f"{state}: {' '.join(numbers)}" for state, numbers in sorted(jobs.items())]
    advice = ""
    if any("MaxWallDuration" in state for state in jobs):  # sbatch refuses such jobs at some sites only
        advice = (
            f". Your account or QOS does not allow jobs of that time, so they wait for ever: lower runtime in {SITE}"
        )
    return f"{QUEUE}{', '.join(states)}{advice}" if states else ""


def own_jobs() -> dict[str, list[str]]:
    """The jobs of this folder by state, without the one that this process runs in."""
    jobs = defaultdict(list)
    for line in _squeue("%i|%T|%r|%Z"):
        number, state, reason, folder = line.split("|", 3)
        if os.path.realpath(folder) == os.path.realpath(".") and number != OWN_JOB:
            jobs[f"wait ({reason})" if state == "PENDING" else state.lower()].append(number)
    return jobs


def not_queued(jobs: set[str]) -> set[str]:
    """Those of the jobs that neither wait nor run; none if the queue cannot be asked."""
    try:
        return jobs.difference(_squeue("%i")) if jobs else set()
    except QueueError:
        return set()


def _squeue(fields: str) -> list[str]:
    return ask("squeue", "--noheader", f"--format={fields}").splitlines()


def ask(command: str, *options: str) -> str:
    """What a command says about this user's jobs."""
    try:
        answer = subprocess.run(
            [command, "--user", getpass.getuser(), *options], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueError(error) from None
    if answer.returncode:
        raise QueueError(" ".join(answer.stderr.split()))
    return answer.stdout
