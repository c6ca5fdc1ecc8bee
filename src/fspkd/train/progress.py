"""Progress of a run: a bar on a terminal, a line now and then in a log file."""

import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0


def tell(text: str) -> None:
    """Print a line at once. Training goes on where nobody reads it, or the disk of its log is full."""
    try:
        print(text, flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115


class Progress:
    """Of a run of `total` iterations, or of at most so many."""

    def __init__(self, name: str, done: int, total: int, at_most: bool = False, line: int = 0) -> None:
        self.name, self.total, self.at_most, self.first = name, total, "at most " if at_most else "", done
        self.started = self.last_line = time.monotonic()
        terminal = sys.stderr.isatty()
        self.bar = (
            tqdm(total=total, initial=done, desc=name, unit="it", dynamic_ncols=True, position=line)
            if terminal
            else None
        )

    def update(self, done: int, state: str, ended: bool) -> None:
        """Show where the run is, after `done` iterations, and a state."""
        if self.bar is not None:
            self.bar.set_postfix_str(state, refresh=False)
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES or ended:
            self.last_line = time.monotonic()
            speed = (done - self.first) / (self.last_line - self.started)
            left = 0 if ended else (self.total - done) / speed if speed else float("nan")
            most = "" if ended else self.at_most
            tell(f"{self.name}: {done}/{self.total} iterations, {state}, {speed:.3g} it/s, {most}{left:.0f} s left")

    def close(self) -> None:
        """Leave the terminal to others."""
        if self.bar is not None:
            self.bar.close()
