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
            _check_quoted(preset, name, CONFIG / table.reference)
    for timing in preset.timings.values():
        if isinstance(timing, InferenceTime) and timing.reference:
            labels(CONFIG / timing.reference)


def labels(path: Path, column: str | None = None) -> list[str]:
    """The label of each line: its `row` with its `mark` (*, ‡, †), where there is such a column.

    Raises UserError for a file that cannot be read, a label that occurs twice, or where there is no column `row`, or none
    of that name.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            missing = [name for name in ("row", column) if name and name not in (lines.fieldnames or ())]
            found = [f"{line.get('row')}{line.get('mark') or ''}" for line in lines]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. It is to hold published numbers.") from None
    if missing:
        raise UserError(f"{path}: has no column {missing[0]!r}. Give it one, or name another file as reference.")
    if twice := [label for number, label in enumerate(found) if label in found[:number]]:
        raise UserError(f"{path}: row = {twice[0]!r}: is there twice. Tell the two apart.")
    return found


def _check_quoted(preset: Preset, name: str, path: Path) -> None:
    table = preset.tables[name]
    known = labels(path, table.measure)
    for label in table.quoted or ():
        if label not in known:
            raise UserError(
                f"{path}: has no row {label!r}, which tables.{name}.quoted of preset "
                f"{preset.name!r} names{suggest(label, known)}"
            )
