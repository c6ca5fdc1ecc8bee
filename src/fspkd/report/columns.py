"""The columns of tables: quantities of the nets of a row."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fspkd.report.predictions import correct_by_image
from fspkd.runs.spec import Run


@dataclass(frozen=True)
class Nets:
    """The nets of a row in one replicate, and all runs that count as theirs; `measured` is accuracy or error."""

    nets: list[Run]
    runs: list[Run]
    measured: str = "accuracy"

    @property
    def finished(self) -> dict[int, Run]:
        """The finished nets, by their numbers in the row, from 1."""
        return {number: net for number, net in enumerate(self.nets, 1) if net.folder.is_finished}

    @property
    def complete(self) -> bool:
        """Whether all runs are finished."""
        return all(run.folder.is_finished for run in self.runs)

    @cached_property
    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """As correct_by_image, for the finished nets; for errors, 1 is a wrong answer and 0 a right one."""
        single, together = correct_by_image(list(self.finished.values()))
        return (1 - single, 1 - together) if self.measured == "error" else (single, together)


@dataclass(frozen=True)
class Column:
    """One kind of column. `values` gives values by column name in files, since a row of several nets may have several.

    A `whole` one is empty for a row with missing nets.
    """

    values: Callable[[Nets], dict[str, float]]
    whole: bool = True
    form: str = "{:.2f}"  # for readers
    has_interval: bool = False  # over replicates


def _each(row: Nets) -> dict[str, float]:
    return {f"net{number}": 100 * net.mean() for number, net in zip(row.finished, row.counted[0], strict=True)}


def is_net(column: str) -> bool:
    """Whether a column of that name is for a single net, as in `nets`."""
    return column.startswith("net") and column.removeprefix("net").isdigit()


COLUMNS = {
    "nets": Column(_each, whole=False),
    "average": Column(lambda row: {"average": 100 * row.counted[0].mean()}, has_interval=True),
    "ensemble": Column(
        lambda row: {"ensemble": 100 * row.counted[1].mean()} if len(row.nets) > 1 else {}, has_interval=True
    ),
    "accuracy": Column(lambda row: {"accuracy": 100 * row.counted[0].mean()}, has_interval=True),
    "error": Column(lambda row: {"error": 100 * row.counted[0].mean()}, has_interval=True),
    "iterations": Column(
        lambda row: {"iterations": sum(run.folder.read_manifest().iterations for run in row.runs)}, form="{:,.0f}"
    ),
}
OF_NETS = ("nets", "average", "ensemble", "iterations")
OF_SINGLE_NETS = {  # for which average and ensemble would be the same
    "accuracy": ("accuracy", "iterations"),
    "error": ("error", "iterations"),
}
