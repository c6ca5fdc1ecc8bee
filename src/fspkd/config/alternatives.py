"""Alternatives of settings, expanded into the rows and tables that they stand for. Imports no torch."""

import json
from collections.abc import Iterator

from fspkd.config.merge import merge
from fspkd.config.preset import Alternatives, Preset
from fspkd.settings import suggest


def laid_out(content: dict, preset: Preset) -> tuple[dict, dict[str, str]]:
    """A preset's content with a row added for each alternative and a table for each comparison.

    Also where each of these was written, by its key: `rows.student_crops`: `alternatives.choices.changes.crops`. Raises
    ValueError for an alternative of a row that does not exist, and for names and labels that are taken.
    """
    rows, tables, made_from = dict(content["rows"]), dict(content["tables"]), {}
    for name, alternatives in preset.alternatives.items():
        where = f"alternatives.{name}"
        if alternatives.row not in rows:
            raise ValueError(
                f"{where}.row = {alternatives.row!r}: no such entry in rows{suggest(alternatives.row, rows)}"
            )
        if name in tables:
            raise ValueError(f"{where}: there is already a table of that name. Rename one of them")
        shown = {alternatives.row: alternatives.row}
        for change, settings in alternatives.changes.items():
            place, row = f"{where}.changes.{change}", f"{alternatives.row}_{change}"
            if row in rows:
                raise ValueError(f"{place}: there is already a row {row!r}. Give the change another name")
            _show(shown, label_of(settings), row, place)
            rows[row] = merge(rows[alternatives.row], settings)
            made_from[f"rows.{row}"] = place
        for label, nets in alternatives.beside.items():
            _show(shown, label, nets, f"{where}.beside")
            made_from[f"tables.{name}.rows.{label}"] = f"{where}.beside.{label}"
        tables[name] = _table(alternatives, shown, preset.replicates)
        made_from[f"tables.{name}"] = where
    return {**content, "rows": rows, "tables": tables}, made_from


def as_written(text: str, made_from: dict[str, str]) -> str:
    """A key, or a message that begins with one; a key that `laid_out` made is replaced by the one in the file."""
    for made, written in sorted(made_from.items(), reverse=True):  # longer keys before their prefixes
        if text == made or text.startswith((f"{made}.", f"{made} ", f"{made}:")):
            return written + text.removeprefix(made)
    return text


def label_of(settings: dict) -> str:
    """The label of a change in a table, such as 'stage1.weight = 0.1'."""
    return ", ".join(f"{key} = {value}" for key, value in _flat(settings))


def _flat(settings: dict, before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _show(shown: dict[str, str], label: str, nets: str, where: str) -> None:
    if label in shown:
        raise ValueError(
            f"{where}: two lines of the table would have the label {label!r}. Change or remove one of them"
        )
    shown[label] = nets


def _table(alternatives: Alternatives, shown: dict[str, str], replicates: int) -> dict:
    """The table, as a file would give it. Its intervals are over replicates if there are several, else over nets."""
    return {"title": alternatives.title, "rows": shown, "intervals": "nets" if replicates == 1 else None}
