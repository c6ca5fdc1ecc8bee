"""The files of published numbers that tables and time comparisons name, as far as planning reads them. Imports no torch."""

import csv
from pathlib import Path

from fspkd.config.load import CONFIG
from fspkd.config.preset import Preset
from fspkd.config.results import InferenceTime
from fspkd.errors import UserError
from fspkd.settings import suggest


def check_published(preset: Preset) -> None:
    """Raise UserError where the published numbers of a preset cannot be read, or lack what a table shows of them."""
    for name, table in preset.tables.items():
        if table.reference:
            _check_table(preset, name, CONFIG / table.reference)
    for timing in preset.timings.values():
        if isinstance(timing, InferenceTime) and timing.reference:
            labels(CONFIG / timing.reference)


def labels(path: Path, columns: tuple[str, ...] = ()) -> list[str]:
    """The label of each line: its `row` with its `mark` (*, ‡, †), where there is such a column.

    Raises UserError for a file that cannot be read, a label that occurs twice, or where there is no column `row`, or none
    of `columns`.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            there = lines.fieldnames or ()
            found = [f"{line.get('row')}{line.get('mark') or ''}" for line in lines]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. It is to hold published numbers.") from None
    for wanted in filter(None, (("row",), columns)):
        if not any(name in there for name in wanted):
            raise UserError(
                f"{path}: has no column {' or '.join(map(repr, wanted))}. Give it one, or name another file as reference."
            )
    if twice := [label for number, label in enumerate(found) if label in found[:number]]:
        raise UserError(f"{path}: row = {twice[0]!r}: is there twice. Tell the two apart.")
    return found


def _check_table(preset: Preset, name: str, path: Path) -> None:
    table = preset.tables[name]
    known = labels(path, (table.measured, *([] if table.measure else ("net1", "average", "ensemble"))))
    if not table.rows.keys() & set(known):
        raise UserError(
            f"{path}: has none of the rows of tables.{name} of preset {preset.name!r}: its rows are "
            f"{', '.join(map(repr, known))}, the table's {', '.join(map(repr, table.rows))}. Give them the same labels, "
            "or the table `reference: null`."
        )
    for label in table.quoted or ():
        if label not in known:
            raise UserError(
                f"{path}: has no row {label!r}, which tables.{name}.quoted of preset "
                f"{preset.name!r} names{suggest(label, known)}"
            )
