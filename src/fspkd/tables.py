"""Tables: a row for each method, its nets, average and ensemble, beside the published values."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from fspkd.errors import UserError
from fspkd.evaluate import accuracy, ensemble, load_predictions
from fspkd.files import write_atomically
from fspkd.plan import Plan, Run

PUBLISHED = "_published"


def read_manifest(run: Run) -> dict:
    """The manifest of a finished run; raises UserError where it is missing or damaged."""
    path = run.folder / "manifest.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Train that net again: snakemake {path}") from None


def row_results(nets: list[Run]) -> dict[str, float]:
    """Test accuracies in percent: net1, net2, ..., their average, and that of the mean of their softmax outputs."""
    probabilities, labels = zip(*(load_predictions(run.folder / "predictions.npz") for run in nets), strict=True)
    single = [accuracy(p, y) for p, y in zip(probabilities, labels, strict=True)]
    return {
        **{f"net{i}": value for i, value in enumerate(single, 1)},
        "average": float(np.mean(single)),
        "ensemble": accuracy(ensemble(list(probabilities)), labels[0]),
    }


def make_table(plan: Plan, name: str) -> pd.DataFrame:
    """A table of the preset: our values, the iterations really run, and beside each the published value.

    Raises UserError where the reference file has no row of that label.
    """
    table = plan.preset.tables[name]
    reference = read_reference(plan.reference(name))
    rows = []
    for label, row in table.rows.items():
        if label not in reference.index:
            raise UserError(
                f"{plan.reference(name)}: has no row {label!r}, which tables.{name}.rows of preset {plan.preset.name!r} names; "
                f"there is: {', '.join(reference.index)}."
            )
        ours = row_results(plan.rows[row])
        ours["iterations"] = sum(read_manifest(run)["iterations"] for run in plan.row_runs(row))
        cells = {"row": label}
        for column, value in ours.items():
            cells[column] = value
            cells[column + PUBLISHED] = reference.loc[label].get(column)
        rows.append(cells)
    return pd.DataFrame(rows)


def read_reference(path: Path) -> pd.DataFrame:
    """Published numbers by label: the row's name with its mark (*, ‡, †) appended."""
    frame = pd.read_csv(path, keep_default_na=False)
    frame = frame.rename(columns={"total_iterations": "iterations"})
    return frame.set_index(frame["row"] + frame["mark"])


def write_table(frame: pd.DataFrame, plan: Plan, name: str, csv: Path) -> None:
    """Write a table as CSV, and beside it as Markdown and LaTeX with cells 'ours (published)'."""
    write_atomically(csv, frame.to_csv(index=False, float_format="%.2f").encode())
    shown = pd.DataFrame({"": frame["row"]})
    for column in (c for c in frame.columns[1:] if not c.endswith(PUBLISHED)):
        number = "{:.2f}" if column != "iterations" else "{:,.0f}"
        pairs = zip(frame[column], frame[column + PUBLISHED], strict=True)
        heading = column.replace("net", "net ") if column.startswith("net") else column
        shown[heading] = [f"{number.format(ours)} ({number.format(theirs)})" for ours, theirs in pairs]
    note = f"{plan.preset.tables[name].title}. Preset {plan.preset.name}; in brackets the published value."
    markdown = f"{note}\n\n{shown.to_markdown(index=False)}\n"
    write_atomically(csv.with_suffix(".md"), markdown.encode())
    text = shown.replace({"‡": "$^\\ddagger$", "†": "$^\\dagger$", r"\*": "$^*$"}, regex=True)
    latex = text.to_latex(
        index=False, caption=note, label=f"tab:{name}", column_format="l" + "r" * (shown.shape[1] - 1)
    )
    write_atomically(csv.with_suffix(".tex"), latex.encode())
