"""The columns of tables: quantities of the nets of a row."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fspkd.results.predictions import correct_by_image
from fspkd.runs.spec import Run


@dataclass(frozen=True)
class Nets:
    """The nets of a row in one replicate, and all runs that are counted to them."""

    nets: list[Run]
    runs: list[Run]

    @cached_property
    def correct(self) -> tuple[np.ndarray, np.ndarray]:
        """See correct_by_image."""
        return correct_by_image(self.nets)


@dataclass(frozen=True)
class Column:
    """One kind of column. `values`: by the names that they have in files, for a row has several where it has several nets."""

    values: Callable[[Nets], dict[str, float]]
    form: str = "{:.2f}"  # for people
    has_interval: bool = False  # over replicates


def _each(row: Nets) -> dict[str, float]:
    return {f"net{number}": 100 * net.mean() for number, net in enumerate(row.correct[0], 1)}


COLUMNS = {
    "nets": Column(_each),
    "average": Column(lambda row: {"average": 100 * row.correct[0].mean()}, has_interval=True),
    "ensemble": Column(lambda row: {"ensemble": 100 * row.correct[1].mean()}, has_interval=True),
    "accuracy": Column(lambda row: {"accuracy": 100 * row.correct[0].mean()}, has_interval=True),
    "iterations": Column(
        lambda row: {"iterations": sum(run.folder.read_manifest().iterations for run in row.runs)}, form="{:,.0f}"
    ),
}
OF_NETS = ("nets", "average", "ensemble", "iterations")
OF_SINGLE_NETS = ("accuracy", "iterations")  # of which average and ensemble would be the same
