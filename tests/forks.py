"""Run the project's scripts in processes that start at once: forks of one that has imported everything."""

import multiprocessing
import os
import runpy
import signal
import sys
from itertools import count
from pathlib import Path

CHANGES = ("os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
FORKS = multiprocessing.get_context("forkserver")
IMPORTED = ["fspkd.train.loop", "fspkd.report.summary", "fspkd.data.sources", "sklearn.datasets"]
FORKS.set_forkserver_preload(IMPORTED)
KILLED = (-signal.SIGKILL, -signal.SIGALRM)


def run(command: tuple[str, ...], *, change: int = 0, seconds: float = 0, output: str | None = None) -> int | None:
    """Run a script in the working directory; returns its exit status, negative for a signal, None if it does not end.

    It is killed before change number `change` to files, counted from 1, or after `seconds`; 0 is never. `output` is a file
    for what it prints.
    """
    process = FORKS.Process(target=_run, args=(str(Path.cwd()), dict(os.environ), command, change, seconds, output))
    process.start()
    process.join(120)
    if process.exitcode is None:
        process.kill()
    return process.exitcode


def said(command: tuple[str, ...], seconds: float = 60) -> tuple[int | None, str]:
    """Run a script for at most that many seconds; returns its exit status and output."""
    status = run(command, seconds=seconds, output="said")
    text = Path("said").read_text()
    assert "Traceback" not in text, text
    return status, text


def _run(
    folder: str, environment: dict[str, str], command: tuple[str, ...], change: int, seconds: float, output: str | None
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if output:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends a process as SIGKILL does
    signal.setitimer(signal.ITIMER_REAL, seconds)
    seen = count(1)

    def watch(event: str, args: tuple) -> None:
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or event in CHANGES) and not str(args[0]).startswith("/dev/") and next(seen) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")
