"""One page with all results of a preset, and how each number was made."""

import base64
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report.claims import NOTE, shown_claims
from fspkd.report.kinds import module_of
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import CLAIMS, render
from fspkd.report.tables import PUBLISHED, make_table, notes, shown_table
from fspkd.report.timings import read_timing
from fspkd.result import wanted_by_results
from fspkd.runs.spec import Run
from fspkd.times import duration


def summary(plan: Plan) -> bytes:
    """The page, from the preset's tables, figures, time comparisons and claims, which must exist."""
    preset, results = plan.preset, Path(plan.preset.results)
    return render(
        "summary.html.j2",
        title=f"The results of preset {preset.name}",
        about=preset.about,
        is_demonstration=preset.demonstration,
        facts=_facts(plan),
        claims=_claims(results / "claims.csv") if plan.claims else None,
        tables=[_table(plan, name) for name in preset.tables],
        figures=[_figure(plan, name) for name in preset.figures],
        timings=[_timing(plan, name) for name in preset.timings],
    )


def _facts(plan: Plan) -> pd.DataFrame:
    """What ran: counts, dates, machines, versions."""
    manifests = [run.folder.read_manifest() for run in wanted_by_results(plan) if run.folder.is_finished]
    if not manifests:
        raise UserError(
            f"{plan.preset.results}: nothing is trained yet. Make it all with: snakemake {plan.preset.results}/summary.html"
        )
    attempts = [attempt for manifest in manifests for attempt in manifest.attempts]

    def all_of(values: list) -> str:
        counts = Counter(str(value) for value in values)
        return "; ".join(f"{value} ({n})" if len(counts) > 1 else value for value, n in counts.most_common())

    times = sorted(datetime.fromisoformat(manifest.finished) for manifest in manifests)
    facts = {
        "nets and first stages": len(manifests),
        "iterations": f"{sum(manifest.iterations for manifest in manifests):,}",
        "replicates": plan.preset.replicates,
        "seed": plan.preset.seed,
        "finished (UTC)": f"{times[0]:%Y-%m-%d %H:%M} to {times[-1]:%Y-%m-%d %H:%M}",
        "training, summed over nets": duration(sum(manifest.seconds for manifest in manifests)),
        "device": all_of([attempt.device for attempt in attempts]),
        "processor": all_of([f"{attempt.processor}, {attempt.instructions}" for attempt in attempts]),
        "precision": all_of([attempt.precision for attempt in attempts]),
        "commit": all_of([attempt.git_commit for attempt in attempts]),
        "versions": all_of([", ".join(f"{k} {v}" for k, v in attempt.versions.items()) for attempt in attempts]),
    }
    return pd.DataFrame({"": facts.keys(), " ": [str(value) for value in facts.values()]})


def _claims(csv: Path) -> dict[str, object]:
    frame = read_labelled(csv)
    counts = Counter("undecided" if v.startswith("undecided") else v for v in frame["verdict"])
    words = [f"{counts[word]} {word}" for word in ("reproduced", "not reproduced", "undecided") if counts[word]]
    return {
        "title": CLAIMS,
        "counts": ", ".join(words),
        "note": NOTE,
        "frame": shown_claims(frame),
        "svg": _svg(csv),
    }


def _svg(csv: Path) -> str:
    """The SVG beside a CSV file, base64-encoded."""
    return base64.b64encode(csv.with_suffix(".svg").read_bytes()).decode()


def _table(plan: Plan, name: str) -> dict[str, object]:
    table, frame = plan.preset.tables[name], make_table(plan, name)
    rows = [
        {"label": label, "nets": len(plan.nets(row)), "runs": [_settings(plan, run) for run in plan.row_runs(row)]}
        for label, row in table.rows.items()
    ]
    return {
        "name": name,
        "title": table.title,
        "measured": "Errors are those" if table.measured == "error" else "Accuracies are those",
        "has_published": any(column.endswith(PUBLISHED) for column in frame),
        "frame": shown_table(frame),
        "svg": _svg(Path(plan.preset.results) / f"{name}.csv"),
        "notes": notes(plan, name),
        "rows": rows,
    }


def _settings(plan: Plan, run: Run) -> dict[str, object]:
    """The settings of a run, as recorded in its folder, and the path to that from the page."""
    settings = run.spec.model_dump(mode="json")
    return {
        "folder": run.folder,
        "link": os.path.relpath(run.folder.path, plan.preset.results),
        "settings": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100),
    }


def _figure(plan: Plan, name: str) -> dict[str, object]:
    figure = plan.preset.figures[name]
    note, frame = module_of(figure).on_page(plan, name)
    svg = _svg(Path(plan.preset.results, f"{name}.csv"))
    return {"name": name, "title": figure.title, "svg": svg, "note": note, "frame": frame}


def _timing(plan: Plan, name: str) -> dict[str, object]:
    settings = plan.preset.timings[name]
    frame = read_timing(plan, name)
    kind = module_of(settings)
    return {
        "name": name,
        "title": settings.title,
        "how": kind.how(frame),
        "frame": kind.shown_timing(frame),
        "note": settings.note,
    }
