"""Tracking beside a training: a process of its own sends what a run measures.

So training neither waits for a tracking server nor fails with it, and does not spend its time on importing MLflow.

    python -m fspkd.live RUN_FOLDER...     follow runs until standard input is closed
"""

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fspkd.tracking import Tracker

SECONDS_BETWEEN_SENDINGS = 30
SECONDS_TO_FINISH = 20  # what the follower gets after its training has ended


@contextmanager
def followed(folders: list[Path]) -> Iterator[None]:
    """While the context lasts, another process follows the runs of those folders, all of one preset."""
    follower = subprocess.Popen([sys.executable, "-m", "fspkd.live", *map(str, folders)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the training has ended: nothing is left to be stopped
        follower.stdin.close()
        try:
            follower.wait(timeout=SECONDS_TO_FINISH)
        except subprocess.TimeoutExpired:
            follower.kill()


def follow(folders: list[Path]) -> None:
    """Send what runs measure every SECONDS_BETWEEN_SENDINGS, and once more when standard input is closed.

    The training process holds the other end of standard input, so its death ends this one too, however it dies. A
    run that ends before the first sending leaves it to the table or figure that shows it: importing MLflow would take
    longer than such a job.
    """
    tracker = None
    while not select.select([sys.stdin], [], [], SECONDS_BETWEEN_SENDINGS)[0]:
        tracker = _send(folders, tracker, training=True)
    if tracker:
        _send(folders, tracker, training=False)


def _send(folders: list[Path], tracker: "Tracker | None", training: bool) -> "Tracker | None":
    """Send what is new; the tracker, made if need be, or None where there is no store."""
    from fspkd.plan import plan_for
    from fspkd.tracking import Tracker, attempt

    def send() -> None:
        nonlocal tracker
        tracker = tracker or Tracker(plan_for(folders[0].parents[2]))
        for folder in folders:
            tracker.send_run(tracker.plan.run(folder.name), training)

    attempt(send)
    return tracker


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the training decides when it ends
    follow([Path(argument) for argument in sys.argv[1:]])
