"""Names and tags of a row's runs in MLflow, so that they are found as the tables show them."""

from collections.abc import Iterable

from fspkd.config.preset import Preset
from fspkd.plan import Plan
from fspkd.settings import digest, row_of


def label(preset: Preset, row: str) -> str:
    """A row's label in the first table that shows it, or else its own name."""
    labels = (label for table in preset.tables.values() for label, r in table.rows.items() if r == row)
    return next(labels, row)


def quantity(preset: Preset, row: str) -> str:
    """Accuracy or error, whichever the first table with the whole row shows."""
    return next((preset.tables[table].measured for table in _tables(preset, row)), "accuracy")


def title(preset: Preset, row: str) -> str:
    """The label, with a table's name if different rows share it."""
    own, tables = label(preset, row), _tables(preset, row)
    shared = len({table.rows[own] for table in preset.tables.values() if own in table.rows}) > 1
    return f"{own}, {tables[0]}" if shared and tables else own


def row_tags(preset: Preset, row: str) -> dict[str, object]:
    """The tags of a row and of its nets."""
    return {
        "preset": preset.name,
        "seed": preset.seed,
        "row": label(preset, row),
        "table": ", ".join(_tables(preset, row)) or "none",
    }


def rows_of(references: Iterable[str]) -> list[str]:
    """The rows of references to rows or to single nets."""
    return list(dict.fromkeys(row_of(reference) for reference in references))


def digest_of(plan: Plan, rows: Iterable[str]) -> str:
    """A hash that distinguishes rows from those of other settings."""
    return digest([run.id for row in rows for run in plan.row_runs(row)])


def _tables(preset: Preset, row: str) -> list[str]:
    return [name for name, table in preset.tables.items() if row in table.rows.values()]
