"""Tables: a row for each method, with the results of its nets beside the published values."""

import html
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fspkd.config.load import CONFIG
from fspkd.config.published import labels as published_labels
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.columns import COLUMNS, OF_NETS, OF_SINGLE_NETS, Nets, is_net
from fspkd.report.origins import warnings
from fspkd.report.pages import table_page
from fspkd.report.stats import mean_half_width, over_seeds, within_groups
from fspkd.result import Result

PUBLISHED, INTERVAL, QUOTED = "_published", "_ci95", "quoted"
LONGEST = 150  # bytes of a label in a file name, which may have 255, a temporary file's suffix included
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


def make_table(plan: Plan, name: str, labels: Iterable[str] | None = None) -> pd.DataFrame:
    """A table of the preset, or some of its rows: our values, the iterations actually run, and the published values.

    With replicates, values are means over the finished ones, except iterations, which are one replicate's; the number n, and
    half the width of 95 % intervals (`..._ci95`) of averages, ensembles, accuracies and errors, are columns too.
    With `intervals: nets`, averages have such a column in a whole table only, since their intervals come from the spread
    within all of its rows. Cells whose nets are missing are empty. A whole table with `quoted` rows has a column of that
    name, which is True for these; they come last, and our values for them are empty.
    """
    table, is_whole = plan.preset.tables[name], labels is None
    rows, quoted = table.rows, table.quoted if is_whole else None
    most = max(len(plan.nets(row, 1)) for row in rows.values())
    kinds = OF_NETS if most > 1 else OF_SINGLE_NETS[table.measured]
    ours = {label: _values(plan, name, rows[label], kinds) for label in labels or rows}
    ours |= {label: {} for label in quoted or ()}
    columns = [c for kind in kinds for c in ([f"net{n + 1}" for n in range(most)] if kind == "nets" else [kind])]
    published = read_reference(plan, name).reindex(index=list(ours))
    frame = pd.DataFrame(index=pd.Index(ours, name="row"))
    for column in columns:
        kind = "Int64" if column == "iterations" else "float64"
        frame[column] = pd.Series([values.get(column) for values in ours.values()], frame.index, kind)
        if column in published:
            frame[column + PUBLISHED] = published[column].astype(kind)
        if COLUMNS[_kind(column)].has_interval and plan.preset.replicates > 1:
            frame[column + INTERVAL] = [values.get(column + INTERVAL) for values in ours.values()]
        if column == "average" and table.intervals and is_whole:
            frame[column + INTERVAL] = _over_nets(ours, rows)
    if plan.preset.replicates > 1:
        n = [len(_complete(plan, name, rows[label])) if label in rows else None for label in ours]
        frame["n"] = pd.Series(n, frame.index, "Int64")
    if quoted:
        frame[QUOTED] = [label not in rows for label in ours]
    return frame.reset_index()


def row_values(plan: Plan, row: str) -> dict[str, float]:
    """The results of a row's nets in the first replicate, apart from any table."""
    nets = Nets(plan.nets(row, 1), plan.row_runs(row, 1))
    return {key: value for kind in OF_NETS for key, value in COLUMNS[kind].values(nets).items()}


def _values(plan: Plan, name: str, row: str, kinds: tuple[str, ...]) -> dict[str, float]:
    """The cells of a table's row, and half the width of their intervals."""
    cells: dict[str, float] = {}
    complete = _complete(plan, name, row)
    partial = [] if complete else [nets for nets in _replicates(plan, name, row)[:1] if nets.finished]
    for kind in kinds:
        used = complete or ([] if COLUMNS[kind].whole else partial)
        measured = pd.DataFrame([COLUMNS[kind].values(replicate) for replicate in used])
        for column in measured:
            if kind == "iterations":
                cells[column] = measured[column].iloc[0]
                continue
            estimate = over_seeds(measured[column])
            cells |= {column: estimate.value, column + INTERVAL: estimate.high - estimate.value}
    return cells


def _replicates(plan: Plan, name: str, row: str) -> list[Nets]:
    measured, replicates = plan.preset.tables[name].measured, range(1, plan.preset.replicates + 1)
    return [Nets(plan.nets(row, number), plan.row_runs(row, number), measured) for number in replicates]


def _complete(plan: Plan, name: str, row: str) -> list[Nets]:
    """The replicates of a table's row whose runs are all finished."""
    return [replicate for replicate in _replicates(plan, name, row) if replicate.complete]


def _over_nets(ours: dict[str, dict[str, float]], rows: dict[str, str]) -> list[float]:
    """Half the width of the 95 % interval, for other nets, of the average of each row of a table.

    It comes from the spread of nets within rows, pooled over the table; references.py ensures that there is one.
    """
    nets = {label: [c for column, c in cells.items() if _kind(column) == "nets"] for label, cells in ours.items()}
    variance, freedom = within_groups(
        {rows.get(label): values for label, values in nets.items()}.values()
    )  # each row once
    return [
        mean_half_width(variance, freedom, len(values)) if "average" in ours[label] else math.nan
        for label, values in nets.items()
    ]


def _kind(column: str) -> str:
    """The key in COLUMNS for a column's name."""
    return "nets" if is_net(column) else column


def read_reference(plan: Plan, name: str) -> pd.DataFrame:
    """The published numbers of a table by label; empty if none.

    Where the paper gives one number per row, its accuracy or error, that stands beside our average too.
    """
    table = plan.preset.tables[name]
    frame = read_published(table.reference).rename(columns={"total_iterations": "iterations"})
    if "average" not in frame and table.measured in frame:
        frame["average"] = frame[table.measured]
    return frame


def read_published(reference: str | None) -> pd.DataFrame:
    """The numbers in a file of config/, by label; empty if none."""
    if reference is None:
        return pd.DataFrame()
    return pd.read_csv(CONFIG / reference).set_index(pd.Index(published_labels(CONFIG / reference)))


def table_csv(frame: pd.DataFrame) -> bytes:
    """A table as the content of a CSV file."""
    return frame.to_csv(index=False, float_format="%.2f").encode()


def shown_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A table formatted for readers: a text per cell, 'ours ± half the interval (published)'; quoted rows are marked."""
    shown = pd.DataFrame({"": row_labels(frame)})
    for column in frame.columns[1:]:
        if column.endswith((PUBLISHED, INTERVAL, QUOTED)):
            continue
        number = "{:,.0f}" if column == "n" else COLUMNS[_kind(column)].form
        texts = as_texts(frame[column], number)
        for suffix, form in ((INTERVAL, " ± {}"), (PUBLISHED, " ({})")):
            if column + suffix in frame:
                added = as_texts(frame[column + suffix], number).map(form.format)
                is_not_known = frame[column + suffix].isna() & (suffix == INTERVAL)
                texts = texts + added.mask(is_not_known, "")
        heading = column.replace("net", "net ") if is_net(column) else column
        shown[heading] = texts
    return shown


def notes(plan: Plan, name: str) -> list[str]:
    """The notes below a table: what its marks mean, and what a reader has to know about how its nets were made."""
    return [*key_to_marks(plan, name), *warnings(plan, name)]


def key_to_marks(plan: Plan, name: str) -> list[str]:
    """What the marks of a table mean, as one text, or none."""
    marks = plan.preset.tables[name].marks or {}
    return ["; ".join(f"{mark}: {meaning}" for mark, meaning in marks.items()) + "."] if marks else []


def in_markdown(text: str) -> str:
    """Escape what Markdown would take for HTML or for a table's columns."""
    return html.escape(text, quote=False).replace("|", "\\|")


def row_labels(frame: pd.DataFrame) -> pd.Series:
    """The labels of a table's rows; quoted ones are marked."""
    return frame["row"].mask(_is_quoted(frame), frame["row"] + " (quoted)")


def _is_quoted(frame: pd.DataFrame) -> pd.Series:
    return frame.get(QUOTED, pd.Series(False, frame.index))


def as_texts(numbers: pd.Series, form: str) -> pd.Series:
    """Numbers formatted for readers; a dash for NaN."""
    return pd.Series([form.format(number) if pd.notna(number) else "–" for number in numbers], numbers.index, object)


def write(plan: Plan, name: str) -> Path:
    """Write a table as CSV, Markdown, HTML and LaTeX, and its metrics for DVC in a folder; returns the CSV's path."""
    result = Result(plan, "table", name)
    table, csv, frame = plan.preset.tables[name], Path(result.file), make_table(plan, name)
    _write_metrics(frame.set_index("row").loc[list(table.rows)], metrics_folder(result))
    write_atomically(csv, table_csv(frame))
    shown = shown_table(frame)
    published = "; in brackets the published value" if table.reference else ""
    half_widths = "; ± half a 95 % interval for other nets" if table.intervals else ""
    if plan.preset.replicates > 1:  # then never `table.intervals` too
        half_widths = f"; ± half a 95 % interval of the mean over {plan.preset.replicates} replicates"
    title = (
        f"{table.title} (preset {plan.preset.name}{published}{half_widths}; iterations of all nets and first stages)."
    )
    key, below = key_to_marks(plan, name), notes(plan, name)
    if plan.preset.demonstration:
        key, below = ([*texts, plan.preset.about] for texts in (key, below))
    alignment = ("left", *["right"] * (shown.shape[1] - 1))
    body = shown.map(in_markdown).to_markdown(index=False, disable_numparse=True, colalign=alignment)
    texts = [in_markdown(title), body, *map(in_markdown, below)]
    write_atomically(csv.with_suffix(".md"), ("\n\n".join(texts) + "\n").encode())
    latex = shown.map(lambda text: text.translate(LATEX)).to_latex(
        index=False,
        caption=" ".join([title, *key]).translate(LATEX),
        label=f"tab:{plan.preset.name}-{name}",
        column_format="l" + "r" * (shown.shape[1] - 1),
    )
    comments = [r"needs \usepackage{booktabs}", *warnings(plan, name)]
    latex = latex.replace(r"\begin{tabular}", "\\small\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}", 1)
    write_atomically(csv.with_suffix(".tex"), ("".join(f"% {comment}\n" for comment in comments) + latex).encode())
    write_atomically(csv.with_suffix(".html"), table_page(title, shown, notes=below))
    return csv


def metrics_folder(table: Result) -> Path:
    """Where `dvc metrics` finds the values of a table's rows."""
    return Path(table.plan.preset.results, "metrics", str(table.name))


def _write_metrics(rows: pd.DataFrame, folder: Path) -> None:
    """Write our values of each table row to a JSON file, since `dvc metrics` prints a line per file and a column per key.

    DVC sorts files by name, so names begin with the row's place in the table. Files of removed rows are deleted.
    """
    columns = [column for column in rows if not column.endswith((PUBLISHED, QUOTED))]
    digits = max(2, len(str(len(rows))))
    written = set()
    for place, (label, cells) in enumerate(rows[columns].round(2).to_dict("index").items(), 1):
        path = folder / f"{place:0{digits}} {_in_a_file_name(label)}.json"
        numbers = {column: number for column, number in cells.items() if pd.notna(number)}
        write_atomically(path, f"{json.dumps(numbers, indent=1)}\n".encode())
        written.add(path)
    for gone in set(folder.glob("*.json")) - written:
        gone.unlink()


def _in_a_file_name(label: str) -> str:
    """A label as part of a file name: forbidden characters replaced, cut to LONGEST bytes."""
    return re.sub(r"[/\x00-\x1f\x7f]", "-", label).encode()[:LONGEST].decode(errors="ignore")
