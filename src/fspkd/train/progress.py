"""Progress of a run: a line now and then."""

import os
import sys
import time
from pathlib import Path

SECONDS_BETWEEN_LINES = 30.0


def tell(text: str) -> None:
    """Print a line at once. Training continues if nobody reads it, or the disk of its log is full."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


class Progress:
    """Reports on a run of `total` iterations, or at most that many."""

    def __init__(self, name: str, done: int, total: int, at_most: bool) -> None:
        self.name, self.total, self.at_most, self.first = name, total, "at most " if at_most else "", done
        self.started = self.last_line = time.monotonic()

    def update(self, done: int, state: str, ended: bool) -> None:
        """Print the progress after `done` iterations, and a state: now and then, and at the end."""
        if time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or ended:
            self.last_line = time.monotonic()
            speed = (done - self.first) / (self.last_line - self.started)
            left = 0 if ended else (self.total - done) / speed if speed else float("nan")
            most = "" if ended else self.at_most
            tell(f"{self.name}: {done}/{self.total} iterations, {state}, {speed:.3g} it/s, {most}{left:.0f} s left")
