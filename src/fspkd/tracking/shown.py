"""Tables and figures in MLflow: a run for each, whose artifacts are its files."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fspkd.plan import Plan
from fspkd.report.tables import make_table, table_csv
from fspkd.result import results_of
from fspkd.tracking.labels import digest_of, rows_of
from fspkd.tracking.store import Store


class Shown:
    """Sends the tables of a preset, and the figures of rows that are in no table, once all of their rows are sent.

    `complete` is what has been sent of the preset; the sender updates it.
    """

    def __init__(self, plan: Plan, store: Store, complete: set[str]) -> None:
        self.plan, self.preset, self.store = plan, plan.preset, store
        self.complete = complete
        self.sent: dict[str, dict[Path, int]] = {}  # when the files that MLflow has were written
        self.tables = {name: rows_of(table.rows.values()) for name, table in self.preset.tables.items()}
        in_tables = {row for rows in self.tables.values() for row in rows}
        figures = {name: rows_of(figure.nets) for name, figure in self.preset.figures.items()}
        self.figures = {name: rows for name, rows in figures.items() if in_tables.isdisjoint(rows)}

    def identities(self) -> set[str]:
        """The identities of these tables and figures under the present settings."""
        return {self._identity(name, rows) for shown in (self.tables, self.figures) for name, rows in shown.items()}

    def send_table(self, name: str) -> None:
        """A table, with the figures and time comparisons of its rows."""
        rows = set(self.tables[name])
        others = {other: set(rows_of(o.nets)) for other, o in (self.preset.figures | self.preset.timings).items()}
        beside = [o for o, needed in others.items() if needed & rows and self.complete.issuperset(needed)]
        self._send(name, "table", self.preset.tables[name].title, self.tables[name], [name, *beside])

    def send_figure(self, name: str) -> None:
        """A figure that is in no table's run."""
        self._send(name, "figure", self.preset.figures[name].title, self.figures[name], [name])

    def _identity(self, name: str, rows: list[str]) -> str:
        return f"shown {name}-{digest_of(self.plan, rows)}"

    def _send(self, name: str, kind: str, title: str, rows: list[str], results: list[str]) -> None:
        """Do nothing if rows are missing, or if MLflow has the files and none was written again."""
        written = _written(file for result in results for file in self._files(result))
        if not self.complete.issuperset(rows) or written == self.sent.get(name):
            return
        if files := [file for result in results for file in self._current_files(result)]:
            tags = {"kind": kind, kind: name, "preset": self.preset.name, "seed": self.preset.seed}
            tags["mlflow.note.content"] = title
            identity = self._identity(name, rows)
            self.store.open(identity, name, tags, None, None)
            self.store.artifacts(identity, files)
            self.store.set_status(identity, "FINISHED")
        self.sent[name] = written  # from before they were read: what was written meanwhile is sent next time

    def _files(self, name: str) -> list[Path]:
        """The paths of the files of a table, figure or time comparison."""
        result = next(result for result in results_of(self.plan) if result.name == name)
        return list(map(Path, result.files))

    def _current_files(self, name: str) -> list[Path]:
        """The files of a table, figure or time comparison; none if they were made from other runs than the plan's."""
        files = self._files(name)
        csv = next(file for file in files if file.name == f"{name}.csv")
        if not csv.exists():
            return []
        if name in self.preset.tables:
            current = csv.read_bytes() == table_csv(make_table(self.plan, name))
        elif name in self.preset.figures:
            from fspkd.report.figures import numbers

            current = csv.read_bytes() == numbers(self.plan, name)
        else:
            current = True  # measured, so it cannot be recomputed
        return [file for file in files if current and file.exists()]


def _written(files: Iterable[Path]) -> dict[Path, int]:
    """When those files that exist were written, in nanoseconds."""
    times = {}
    for file in files:
        with suppress(FileNotFoundError):
            times[file] = file.stat().st_mtime_ns
    return times
