"""The files of published numbers that results name, as far as planning needs them. Imports no torch."""

import csv
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, get_args

from fspkd.config.load import CONFIG
from fspkd.config.preset import Preset
from fspkd.config.results import Depth, SpeedUp, TrainingTime
from fspkd.errors import UserError
from fspkd.settings import suggest


class Columns(NamedTuple):
    """The columns that a file needs: those whose texts together are the label of a line, and at least one of `others`."""

    label: tuple[str, ...] = ("row",)
    others: tuple[str, ...] = ()


ROWS = Columns()
NEEDED = {  # by what a table measures, and by the kind of a figure or time comparison
    "accuracy": Columns(others=("accuracy", "net1", "average", "ensemble")),
    "error": Columns(others=("error",)),
    "depth": Columns(("panel", "method", "layers"), ("accuracy",)),
    "training_time": Columns(("what",), ("value",)),
    "inference_time": ROWS,
}
OF_NUMBERS = re.compile(
    r"accuracy|error|net\d+|average|ensemble|total_iterations|layers|weights|multiplications|speed_up|compression|value"
)
WHOLE = re.compile(r"total_iterations|layers|weights|multiplications")
NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)? *", re.IGNORECASE)


def check_published(preset: Preset) -> None:
    """Raise UserError if the published numbers of a preset cannot be read, or lack what is shown of them."""
    for name, table in preset.tables.items():
        if table.reference:
            path, where = CONFIG / table.reference, f"tables.{name}"
            _check_some(path, table.measured, table.rows, f"{where} of preset {preset.name!r}")
            for label in table.quoted or ():
                check_row(path, table.measured, label, f"{where}.quoted of preset {preset.name!r}")
    for name, timing in preset.timings.items():
        if isinstance(timing, TrainingTime):
            where = f"timings.{name} of preset {preset.name!r}"
            _check_some(CONFIG / timing.reference, timing.kind, get_args(SpeedUp), where)
        elif timing.reference:
            labels(CONFIG / timing.reference, NEEDED[timing.kind], f"timings.{name} of preset {preset.name!r}")
    for name, figure in preset.figures.items():
        if isinstance(figure, Depth) and figure.reference:
            labels(CONFIG / figure.reference, NEEDED[figure.kind], f"figures.{name} of preset {preset.name!r}")


def check_row(path: Path, kind: str, label: str, where: str) -> None:
    """Raise UserError if a file of that kind cannot be read, or has no row of that label; `where` says what names it."""
    if label not in (known := labels(path, NEEDED[kind], where)):
        raise UserError(f"{path}: has no row {label!r}, which {where} names{suggest(label, known)}")


def _check_some(path: Path, kind: str, shown: Collection[str], where: str) -> None:
    """Raise UserError if a file of that kind cannot be read, or has none of the rows shown; `where` says what shows them."""
    known = labels(path, NEEDED[kind], where)
    if not set(shown) & set(known):
        raise UserError(
            f"{path}: has none of the rows of {where}: it has {', '.join(map(repr, known))}, but not "
            f"{', '.join(map(repr, shown))}. Give them the same labels, or name another file as reference (a table needs "
            f"none: `reference: null`)."
        )


def labels(path: Path, needed: Columns = ROWS, where: str = "") -> list[str]:
    """The label of each row, with its `mark` (*, ‡, †) if there is such a column; `where` says what names the file.

    Raises UserError for a file that cannot be read or lacks a needed column, for a label that occurs twice, and for cells
    that have no column, or are not numbers where results read numbers.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            there, lines = reader.fieldnames or (), [(reader.line_num, line) for line in reader]
    except OSError as error:
        told = f", which {where} names" if where else ""
        raise UserError(
            f"{path}{told}: cannot be read: {error.strerror}. It should hold the published numbers."
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text. Save it as UTF-8.") from None
    for wanted in filter(None, (*((name,) for name in needed.label), needed.others)):
        if not any(name in there for name in wanted):
            raise UserError(
                f"{path}: has no column {' or '.join(map(repr, wanted))}. Add one, or name another file as reference."
            )
    for number, line in lines:
        _check_cells(f"{path}: line {number}", line)
    found = [", ".join(line[name] or "" for name in needed.label) + (line.get("mark") or "") for _, line in lines]
    if twice := [label for number, label in enumerate(found) if label in found[:number]]:
        raise UserError(
            f"{path}: {', '.join(needed.label)} = {twice[0]!r}: occurs twice. Give the two different labels."
        )
    return found


def _check_cells(where: str, line: dict) -> None:
    if None in line:
        raise UserError(f"{where}: has more cells than there are columns. Put quotes around a text with a comma.")
    if not any(text and text.strip() for text in line.values()):
        raise UserError(f"{where}: is empty. Remove it.")
    for column, text in line.items():
        if text and OF_NUMBERS.fullmatch(column) and not NUMBER.fullmatch(text):
            raise UserError(f"{where}: {column} = {text!r}: is not a number. Write one, such as 91.5, or nothing.")
        if text and WHOLE.fullmatch(column) and float(text) % 1:
            raise UserError(
                f"{where}: {column} = {text!r}: is not a whole number. Write one, such as 64000, or nothing."
            )
