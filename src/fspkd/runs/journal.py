"""The journal of a run: who trained it, when, and how much on disk is final.

A line of JSON for each attempt at its start, each checkpoint and each failure, with a checksum. Only what a checkpoint holds
is final: what was measured after it is measured again when a killed run resumes. Only training writes it.
"""

from __future__ import annotations

import io
import json
import time
import zlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np

from fspkd.errors import UserError
from fspkd.files import Prefix, growing, write_atomically
from fspkd.lazy import pandas as pd
from fspkd.runs.folder import Attempt, Manifest, RunFolder

CHECKSUM = "crc32"  # the last key of a line: of the others


class JournalWriter:
    """Appends to the journal in a run's folder.

    A training that starts before the last final iteration begins a new journal: it is another training.
    """

    def __init__(self, folder: RunFolder, attempt: Attempt) -> None:
        self.path = folder.journal
        before = read_journal(folder)
        self.was_damaged = self.path.exists() and (before is None or before.is_damaged)
        if self.path.exists() and (before is None or before.saved > attempt.from_iteration):
            self.path.unlink()
            folder.usage.unlink(missing_ok=True)
        elif before:
            # A full disk may have cut a line. Replaced, since the file may be a link into DVC's cache.
            write_atomically(self.path, self.path.read_bytes()[: before.bytes])
            _cut_to_whole_lines(folder.usage)
        self._write(iteration=attempt.from_iteration, attempt=attempt.model_dump(mode="json"))

    def saved(self, iteration: int, metrics: Prefix) -> None:
        """Note a checkpoint, and what the metrics file held then."""
        self._write(iteration=iteration, metrics=[metrics.bytes, metrics.sha256])

    def failed(self, iteration: int, reason: str) -> None:
        """Note why the training ended at an iteration."""
        self._write(iteration=iteration, failure=reason)

    def _write(self, **line: object) -> None:
        line = {"time": round(time.time(), 3), **line}
        with growing(self.path), self.path.open("a") as file:
            file.write(json.dumps({**line, CHECKSUM: _checksum(line)}) + "\n")


def _cut_to_whole_lines(path: Path) -> None:
    """Remove what follows a file's last complete line, and a file without any."""
    if path.exists():
        content = path.read_bytes()
        if whole := content.rfind(b"\n") + 1:
            write_atomically(path, content[:whole])
        else:
            path.unlink()


@dataclass(frozen=True)
class Journal:
    """The content of a journal: its lines in order, their size, and whether damaged ones follow."""

    lines: list[dict]
    bytes: int
    is_damaged: bool = False

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
        """How many iterations a checkpoint holds."""
        return max(line["iteration"] for line in self.lines if "failure" not in line)

    @property
    def metrics(self) -> Prefix:
        """What the metrics file held at the last checkpoint."""
        return Prefix(*next((line["metrics"] for line in reversed(self.lines) if "metrics" in line), ()))

    @property
    def failure(self) -> str | None:
        """Why the last attempt failed, unless it was killed from outside."""
        return self.lines[-1].get("failure")

    @cached_property
    def times(self) -> np.ndarray:
        """When each iteration was, in milliseconds since 1970, spaced evenly between the journal's lines: (iterations,).

        Later lines never change the times of earlier iterations. Iterations before the first line, which were in an earlier
        journal, have that line's time.
        """
        times = [self.started] * self.lines[0]["iteration"]
        for before, after in zip(self.lines, self.lines[1:], strict=False):
            count = after["iteration"] - len(times)
            if count > 0:
                begun = _milliseconds(before)
                spread = np.linspace(begun, _milliseconds(after), count + 1)[1:]
                times.extend(spread.astype(np.int64).tolist())
        return np.array(times, dtype=np.int64)


def read_journal(folder: RunFolder) -> Journal | None:
    """The journal in a run's folder; None if there is none yet, or nothing in it is whole.

    It ends before the first line that is damaged, or incomplete, as a full disk or a crashed node may leave one.
    """
    try:
        content = folder.journal.read_bytes()
    except FileNotFoundError:
        return None
    lines, size, whole = [], 0, content[: content.rfind(b"\n") + 1]
    for text in whole.splitlines(keepends=True):
        line = _checked(text)
        if line is None or not (lines or "attempt" in line):
            break
        lines.append(line)
        size += len(text)
    return Journal(lines, size, is_damaged=size < len(whole)) if lines else None


def _checksum(line: dict) -> int:
    return zlib.crc32(json.dumps(line).encode())


def _checked(text: bytes) -> dict | None:
    """A line without its checksum; None if it is not as it was written."""
    try:
        line = json.loads(text)
        return line if line.pop(CHECKSUM, None) == _checksum(line) else None
    except (ValueError, AttributeError, RecursionError):
        return None


def trusted_journal(folder: RunFolder) -> tuple[Journal | None, bool]:
    """A run's journal, and whether it is damaged; if so, what is left of it or, for a finished run, one from its manifest.

    None if a run has none. While a run is training, nothing counts as damage.
    """
    manifest = folder.read_manifest() if folder.is_finished else None
    journal = read_journal(folder)  # after the manifest: the run may finish meanwhile
    is_damaged = journal.is_damaged if journal else folder.journal.exists()
    if manifest and (journal is None or journal.saved < manifest.iterations):
        is_damaged = True  # it, or its end, is gone
    if not is_damaged or folder.is_training:
        return journal, False
    return _of_manifest(manifest) if manifest else journal, True


def _of_manifest(manifest: Manifest) -> Journal:
    """A journal made from a manifest, which knows only its beginning, estimated by the seconds of computing, and end."""
    ended = datetime.fromisoformat(manifest.finished).timestamp()
    attempts = [{"iteration": a.from_iteration, "attempt": a.model_dump(mode="json")} for a in manifest.attempts]
    begun = [{"time": ended - manifest.seconds, **attempt} for attempt in attempts]
    return Journal([*begun, {"time": ended, "iteration": manifest.iterations}], 0)


def final_measurements(folder: RunFolder, journal: Journal) -> pd.DataFrame:
    """The final rows of a run's metrics, with the `time` of each in milliseconds since 1970.

    Raises UserError if the file is not as it was written.
    """
    if folder.is_finished:
        frame = _complete_rows(folder.vouched(folder.metrics).read_bytes())
    elif not journal.metrics.bytes:  # nothing is final yet
        return pd.DataFrame(columns=["iteration", "time"])
    elif not (folder.is_training or journal.metrics.is_in(folder.growing_metrics)):
        raise UserError(
            f"{folder.growing_metrics}: does not match {folder.journal.name} beside it. Resuming the training repairs "
            f"it: snakemake {folder.manifest}"
        )
    else:
        frame = _complete_rows(folder.growing_metrics.read_bytes()[: journal.metrics.bytes])
    frame = frame[frame["iteration"] <= len(journal.times)].copy()
    frame["time"] = journal.times[frame["iteration"].to_numpy(dtype=np.int64) - 1]
    return frame


def usage(folder: RunFolder) -> pd.DataFrame:
    """The machine's usage while a run trained: a row every ten seconds, `time` in milliseconds since 1970."""
    return _complete_rows(folder.usage.read_bytes()) if folder.usage.exists() else pd.DataFrame(columns=["time"])


def _complete_rows(content: bytes) -> pd.DataFrame:
    """The rows of a CSV file that may be growing."""
    return pd.read_csv(io.BytesIO(content[: content.rfind(b"\n") + 1]))


def _milliseconds(line: dict) -> int:
    return int(1000 * line["time"])
