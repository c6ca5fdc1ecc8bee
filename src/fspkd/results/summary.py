"""One page with all results of a preset, and how each number was made."""

import html
from collections import Counter
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.results.claims import claims_html
from fspkd.results.pages import page, picture_html, shown, table_html
from fspkd.results.stats import ratio
from fspkd.results.tables import PUBLISHED, different_code, make_table, read_manifest, shown_table
from fspkd.results.training_time import shown_timing
from fspkd.runs.spec import Run


def summary(plan: Plan) -> str:
    """The page; needs the preset's tables, figures, time comparisons and claims to be there."""
    preset, results = plan.preset, Path(plan.preset.results)
    parts = [_what_ran(plan)]
    if plan.claims:
        parts.append(_claims(pd.read_csv(results / "claims.csv")))
    for name, table in preset.tables.items():
        parts.append(_section(table.title, _table(plan, name)))
    for name, figure in preset.figures.items():
        drawn = picture_html((results / f"{name}.svg").read_bytes(), figure.title)
        parts.append(_section(figure.title, drawn + _flat_parts(plan, name, pd.read_csv(results / f"{name}_flat.csv"))))
    for name in preset.timings:
        frame = pd.read_csv(results / f"{name}.csv")
        note = (
            f"<p>Measured on {html.escape(str(frame['device'].iloc[0]))}; test passes and start-up are not in it.</p>"
        )
        parts.append(_section("Time", note + table_html(shown_timing(frame))))
    return page(f"FSP matrices and hints: the results of preset {preset.name}", "\n".join(parts))


def _section(title: str, content: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n{content}"


def _what_ran(plan: Plan) -> str:
    """Counts, dates, machines, versions."""
    finished = [run for run in plan.runs.values() if (run.folder / "manifest.json").exists()]
    manifests = [read_manifest(run) for run in finished]  # a row that nothing shows need not have been trained
    if not finished:
        raise UserError(
            f"{plan.preset.results}: nothing is trained yet. Make it all with: snakemake {plan.preset.results}/summary.html"
        )
    attempts = [attempt for manifest in manifests for attempt in manifest["attempts"]]

    def all_of(values: list) -> str:
        counts = Counter(str(value) for value in values)
        return "; ".join(f"{value} ({n})" if len(counts) > 1 else value for value, n in counts.most_common())

    times = sorted(datetime.fromisoformat(manifest["finished"]) for manifest in manifests)
    facts = {
        "nets and first stages": len(manifests),
        "iterations": f"{sum(manifest['iterations'] for manifest in manifests):,}",
        "replicates": plan.preset.replicates,
        "seed": plan.preset.seed,
        "finished (UTC)": f"{times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M}",
        "hours of training, summed over nets": f"{sum(manifest['seconds'] for manifest in manifests) / 3600:.2f}",
        "device": all_of([attempt["device"] for attempt in attempts]),
        "precision": all_of([attempt["precision"] for attempt in attempts]),
        "commit": all_of([attempt["git_commit"] for attempt in attempts]),
        "versions": all_of([", ".join(f"{k} {v}" for k, v in attempt["versions"].items()) for attempt in attempts]),
    }
    frame = pd.DataFrame({"": facts.keys(), " ": [str(value) for value in facts.values()]})
    return f"<p>{html.escape(plan.preset.about)}</p>" + table_html(frame, "texts facts")


def _claims(frame: pd.DataFrame) -> str:
    counts = Counter("undecided" if v.startswith("undecided") else v for v in frame["verdict"])
    words = ", ".join(
        f"{counts[word]} {word}" for word in ("reproduced", "not reproduced", "undecided") if counts[word]
    )
    note = (
        f"<p>{words}. Differences are in percentage points. A claim is undecided where the 95 % interval, over seeds and "
        f"test images, holds the threshold, or where a single seed says nothing about others.</p>"
    )
    return _section("What the paper claims", note + claims_html(frame))


def _table(plan: Plan, name: str) -> str:
    frame = make_table(plan, name)
    note = "In brackets the published value. " if any(column.endswith(PUBLISHED) for column in frame) else ""
    parts = [f"<p>{note}Accuracies are those after the last iteration.</p>", table_html(shown_table(frame))]
    if warning := different_code(plan, name):
        parts.append(f"<p>{html.escape(warning)}</p>")
    for label, row in plan.preset.tables[name].rows.items():
        runs = plan.row_runs(row)
        nets = len(plan.nets(row))
        made = f"how its {nets} nets were made" if nets > 1 else "how it was made"
        parts.append(f"<details><summary>{html.escape(label)}: {made}</summary>")
        parts += [_settings(run) for run in runs] + ["</details>"]
    return "\n".join(parts)


def _settings(run: Run) -> str:
    """The settings of a run, as its run.yaml has them."""
    text = yaml.safe_dump(run.spec.model_dump(mode="json"), sort_keys=False, default_flow_style=None, width=100)
    return f"<p><code>{html.escape(str(run.folder))}</code></p><pre>{html.escape(text)}</pre>"


def _flat_parts(plan: Plan, name: str, frame: pd.DataFrame) -> str:
    """Where the curves of a figure become flat, and the ratio of the first to the second."""
    rows = []
    for measure, group in frame.groupby("measure", sort=False):
        by_curve = {label: nets["iteration"] for label, nets in group.groupby("curve", sort=False)}
        row = {"": measure, **{f"{label}: flat from": shown(nets.mean(), ",.0f") for label, nets in by_curve.items()}}
        if len(by_curve) > 1:
            first, second = list(by_curve)[:2]
            estimate = ratio(by_curve[first], by_curve[second])
            row[f"{first} / {second}"] = shown(estimate.value)
            row["95 % interval"] = f"{shown(estimate.low)} to {shown(estimate.high)}"
        published = [
            c.published for c in plan.claims if c.compare == "figure" and (c.figure, c.measure) == (name, measure)
        ]
        row["published"] = f"about {published[0]:g}" if published else "–"
        rows.append(row)
    note = (
        "<p>A curve is flat from where it first comes within 5 % of its level in the last tenth of the iterations at the "
        "first learning rate; means over nets.</p>"
    )
    return note + table_html(pd.DataFrame(rows))
