"""The journal of a run: who trained it, when, and how far what is on disk is final.

A line of JSON for each attempt at its start, each checkpoint and each failure. Only what a checkpoint holds is final:
what was measured after it is measured again when a killed run goes on. Nothing but training writes it.
"""

import io
import json
import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from fspkd.files import growing
from fspkd.runs.folder import Attempt, RunFolder


class JournalWriter:
    """Appends to the journal in a run's folder.

    A training that starts from 0 although more was final begins a new journal: it is another training of that run.
    """

    def __init__(self, folder: RunFolder, attempt: Attempt) -> None:
        self.path = folder.journal
        before = read_journal(folder)
        if before and before.saved > attempt.from_iteration:
            self.path.unlink()
            folder.usage.unlink(missing_ok=True)
        elif before:
            with growing(self.path):
                os.truncate(self.path, before.bytes)  # a full disk may have cut a line
        self._write(iteration=attempt.from_iteration, attempt=attempt.model_dump(mode="json"))

    def saved(self, iteration: int) -> None:
        self._write(iteration=iteration)

    def failed(self, iteration: int, reason: str) -> None:
        self._write(iteration=iteration, failure=reason)

    def _write(self, **line: object) -> None:
        with growing(self.path), self.path.open("a") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **line}) + "\n")


@dataclass(frozen=True)
class Journal:
    """What a journal says: its lines in order, and their size."""

    lines: list[dict]
    bytes: int

    @property
    def started(self) -> int:
        """When the training began, in milliseconds since 1970; no two trainings of a run share it."""
        return _milliseconds(self.lines[0])

    @property
    def ended(self) -> int:
        """When the journal was last written to, in milliseconds since 1970."""
        return _milliseconds(self.lines[-1])

    @property
    def attempt(self) -> Attempt:
        """The code and machine of the last attempt."""
        return Attempt.model_validate(next(line["attempt"] for line in reversed(self.lines) if "attempt" in line))

    @property
    def saved(self) -> int:
        """The iterations that a checkpoint holds."""
        return max(line["iteration"] for line in self.lines if "failure" not in line)

    @property
    def failure(self) -> str | None:
        """Why the last attempt failed, unless it was killed from outside."""
        return self.lines[-1].get("failure")

    @cached_property
    def times(self) -> np.ndarray:
        """When each iteration was, in milliseconds since 1970, evenly between what the journal noted: (iterations,).

        Further lines never change the times of earlier iterations.
        """
        times: list[int] = []
        for before, after in zip(self.lines, self.lines[1:], strict=False):
            count = after["iteration"] - len(times)
            if count > 0:
                begun = _milliseconds(before)
                spread = np.linspace(begun, _milliseconds(after), count + 1)[1:]
                times.extend(spread.astype(np.int64).tolist())
        return np.array(times, dtype=np.int64)


def read_journal(folder: RunFolder) -> Journal | None:
    """The journal in a run's folder; None where there is none yet.

    It ends before the first incomplete line, which a full disk or a crashed node may leave.
    """
    try:
        content = folder.journal.read_bytes()
    except FileNotFoundError:
        return None
    lines, size = [], 0
    for line in content.splitlines(keepends=True):
        try:
            lines.append(json.loads(line[: line.index(b"\n")]))
        except ValueError:
            break
        size += len(line)
    return Journal(lines, size) if lines else None


def final_measurements(folder: RunFolder, journal: Journal) -> pd.DataFrame:
    """The final rows of a run's metrics, with the `time` of each in milliseconds since 1970."""
    file = next((f for f in (folder.metrics, folder.growing_metrics) if f.exists()), None)
    if file is None:
        return pd.DataFrame(columns=["iteration", "time"])
    frame = _complete_rows(file)
    frame = frame[frame["iteration"] <= len(journal.times)].copy()
    frame["time"] = journal.times[frame["iteration"].to_numpy(dtype=np.int64) - 1]
    return frame


def usage(folder: RunFolder) -> pd.DataFrame:
    """What the machine was doing while a run trained: a row each ten seconds, `time` in milliseconds since 1970."""
    return _complete_rows(folder.usage) if folder.usage.exists() else pd.DataFrame(columns=["time"])


def _complete_rows(file: Path) -> pd.DataFrame:
    """The rows of a CSV file that may be growing."""
    content = file.read_bytes()
    return pd.read_csv(io.BytesIO(content[: content.rfind(b"\n") + 1]))


def _milliseconds(line: dict) -> int:
    return int(1000 * line["time"])
