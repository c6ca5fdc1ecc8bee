"""Tables: a row for each method, its nets, average and ensemble, beside the published values."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from fspkd.engine.evaluate import correct, ensemble, load_predictions
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.results.pages import page, table_html
from fspkd.results.stats import over_seeds
from fspkd.runs.spec import Run

PUBLISHED, INTERVAL = "_published", "_ci95"
SUMMARIES = ("average", "ensemble")
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "‡": r"$^\ddagger$",
        "†": r"$^\dagger$",
        "*": "$^*$",
        "–": "--",
        "±": r"$\pm$",
    }
)


def read_manifest(run: Run) -> dict:
    """The manifest of a finished run; raises UserError where it is missing or damaged."""
    path = run.folder / "manifest.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}). Delete it, if it is there, and make it again: snakemake {path}"
        ) from None


def correct_by_image(nets: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each net is right about each test image, (nets, images), and whether their ensemble is, (images,): 0 or 1.

    Raises UserError where the nets were tested on different images, or their predictions cannot be read.
    """
    probabilities, labels = zip(*(load_predictions(run.folder / "predictions.npz") for run in nets), strict=True)
    if any(not np.array_equal(labels[0], other) for other in labels):
        raise UserError(
            f"{nets[0].folder} and the other nets of its row were tested on different images. Train them again: "
            f"delete their folders."
        )
    single = np.stack([correct(p, labels[0]) for p in probabilities])
    return single, correct(ensemble(list(probabilities)), labels[0])


def row_results(nets: list[Run]) -> dict[str, float]:
    """Test accuracies in percent: net1, net2, ..., their average, and that of the mean of their softmax outputs."""
    single, together = correct_by_image(nets)
    return {
        **{f"net{i}": 100 * net.mean() for i, net in enumerate(single, 1)},
        "average": 100 * single.mean(),
        "ensemble": 100 * together.mean(),
    }


def make_table(plan: Plan, name: str, labels: Iterable[str] | None = None) -> pd.DataFrame:
    """A table of the preset, or some of its rows: our values, the iterations really run, and the published values.

    Where the preset has replicates the values are means over them, and n, and half the width of 95 % intervals of
    averages and ensembles (`..._ci95`), are columns too. Iterations are those of one replicate.
    """
    table = plan.preset.tables[name]
    rows: dict[str, dict[str, float]] = {}
    for label in labels or table.rows:
        replicates = [row_results(plan.nets(table.rows[label], r + 1)) for r in range(plan.preset.replicates)]
        estimates = {key: over_seeds([values[key] for values in replicates]) for key in replicates[0]}
        rows[label] = {key: estimate.value for key, estimate in estimates.items()}
        rows[label] |= {f"{key}{INTERVAL}": estimates[key].high - estimates[key].value for key in SUMMARIES}
        rows[label]["n"] = plan.preset.replicates
        rows[label]["iterations"] = sum(read_manifest(run)["iterations"] for run in plan.row_runs(table.rows[label], 1))
    ours = pd.DataFrame.from_dict(rows, orient="index")
    nets = sorted((column for column in ours if column.startswith("net")), key=lambda column: int(column[3:]))
    columns = [*nets, *SUMMARIES]
    if len(nets) == 1:  # then all three are the same
        ours, columns = (
            ours.rename(columns={"average": "accuracy", f"average{INTERVAL}": f"accuracy{INTERVAL}"}),
            ["accuracy"],
        )
    published = pd.DataFrame(index=ours.index)
    if reference := plan.reference(name):
        published = read_reference(reference).reindex(index=ours.index)
    chosen = {}
    for column in [*columns, "iterations"]:
        chosen[column] = ours[column]
        if column in published:
            chosen[column + PUBLISHED] = published[column]
        if plan.preset.replicates > 1 and column + INTERVAL in ours:
            chosen[column + INTERVAL] = ours[column + INTERVAL]
    if plan.preset.replicates > 1:
        chosen["n"] = ours["n"]
    return pd.DataFrame(chosen).rename_axis("row").reset_index()


def read_reference(path: Path) -> pd.DataFrame:
    """Published numbers by label: the row's name with its mark (*, ‡, †), where it has one, appended."""
    frame = pd.read_csv(path).rename(columns={"total_iterations": "iterations"})
    marks = frame["mark"].fillna("") if "mark" in frame else ""
    return frame.set_index(frame["row"] + marks)


def different_code(plan: Plan, name: str) -> str | None:
    """A warning where the nets of a table were not all trained by the same code, or None."""
    versions: dict[str, dict[str, list[str]]] = {}  # of the engine and of each loss
    for row in plan.preset.tables[name].rows.values():
        for run in plan.row_runs(row):
            for attempt in read_manifest(run)["attempts"]:
                code, method = attempt["code_sha256"], run.spec.method.method
                for part, version in (("engine", code["engine"]), (method, code["method"])):
                    versions.setdefault(part, {}).setdefault(version[:10], []).append(run.id)
    parts = [
        f"{part} {version}: {', '.join(dict.fromkeys(runs))}"
        for part, found in versions.items()
        if len(found) > 1
        for version, runs in found.items()
    ]
    if not parts:
        return None
    return f"warning: these nets were trained by different versions of the code ({'; '.join(parts)})"


def table_csv(frame: pd.DataFrame) -> bytes:
    """A table as the content of a CSV file."""
    return frame.to_csv(index=False, float_format="%.2f").encode()


def shown_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A table as people read it: a text a cell, 'ours ± half the interval (published)'."""
    shown = pd.DataFrame({"": frame["row"]})
    for column in frame.columns[1:]:
        if column.endswith((PUBLISHED, INTERVAL)):
            continue
        number = "{:,.0f}" if column in ("iterations", "n") else "{:.2f}"
        texts = frame[column].map(number.format, na_action="ignore").fillna("–")
        for suffix, form in ((INTERVAL, " ± {}"), (PUBLISHED, " ({})")):
            if column + suffix in frame:
                others = frame[column + suffix].map(number.format, na_action="ignore").fillna("–")
                texts = texts + others.map(form.format)
        heading = column.replace("net", "net ") if column.startswith("net") else column
        shown[heading] = texts
    return shown


def write_table(frame: pd.DataFrame, plan: Plan, name: str, csv: Path) -> None:
    """Write a table as CSV, and beside it as Markdown, HTML and LaTeX for people, and ours alone as JSON."""
    write_atomically(csv, table_csv(frame))
    columns = [column for column in frame.columns[1:] if not column.endswith(PUBLISHED)]
    numbers = frame.set_index("row")[columns].round(2).to_json(orient="index", force_ascii=False, indent=1)
    write_atomically(csv.with_suffix(".json"), f"{numbers}\n".encode())
    shown = shown_table(frame)
    published = "; in brackets the published value" if plan.reference(name) else ""
    note = f"{plan.preset.tables[name].title} (preset {plan.preset.name}{published})."
    markdown = f"{note}\n\n{shown.to_markdown(index=False)}\n"
    write_atomically(csv.with_suffix(".md"), markdown.encode())
    latex = shown.map(lambda text: text.translate(LATEX)).to_latex(
        index=False, caption=note.translate(LATEX), label=f"tab:{name}", column_format="l" + "r" * (shown.shape[1] - 1)
    )
    write_atomically(csv.with_suffix(".tex"), latex.encode())
    write_atomically(csv.with_suffix(".html"), page(note, table_html(shown)).encode())
