"""One page with all results of a preset, and how each number was made."""

import base64
import importlib
import os
from collections import Counter
from datetime import datetime
from pathlib import Path

import pandas as pd
import yaml

from fspkd.config.results import Curves, Matrices, Plateau
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report.claims import independent_flat_parts, shown_claims
from fspkd.report.pages import duration, render, shown
from fspkd.report.stats import ratio
from fspkd.report.tables import PUBLISHED, make_table, notes, shown_table
from fspkd.runs.spec import Run

FLAT = (
    "A curve is flat from where it first comes within 5 % of its level in the last tenth of the iterations at the first "
    "learning rate; means over nets."
)
LEARNED = (
    "Means over the nets of a point that learnt; in brackets the published value. A net that is right less than twice as "
    "often as one that guesses has failed to learn."
)

PLATEAU = (
    "A net has left the plateau when its training loss, a mean over 50 iterations, is below 0.99 of that of a net which gives "
    "all classes the same probability; last: its loss as a part of that, at the end. A net a line."
)
MATRICES = (
    "FSP matrices as means over test images, the student's as it normalises in training; distance: the mean squared difference "
    "to the teacher's, entry by entry, which is what the first stage makes small."
)


def summary(plan: Plan) -> bytes:
    """The page; needs the preset's tables, figures, time comparisons and claims to be there."""
    preset, results = plan.preset, Path(plan.preset.results)
    return render(
        "summary.html.j2",
        title=f"FSP matrices and hints: the results of preset {preset.name}",
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
    # A row that nothing shows need not have been trained.
    manifests = [run.folder.read_manifest() for run in plan.runs.values() if run.folder.is_finished]
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
    frame = pd.read_csv(csv)
    counts = Counter("undecided" if v.startswith("undecided") else v for v in frame["verdict"])
    words = [f"{counts[word]} {word}" for word in ("reproduced", "not reproduced", "undecided") if counts[word]]
    return {"counts": ", ".join(words), "frame": shown_claims(frame), "svg": _svg(csv)}


def _svg(csv: Path) -> str:
    """The drawing beside a CSV file, for a page."""
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
    """The settings of a run, as it has noted them, and the way to its folder from the page."""
    settings = run.spec.model_dump(mode="json")
    return {
        "folder": run.folder,
        "link": os.path.relpath(run.folder.path, plan.preset.results),
        "settings": yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=100),
    }


def _figure(plan: Plan, name: str) -> dict[str, object]:
    figure, results = plan.preset.figures[name], Path(plan.preset.results)
    if isinstance(figure, Curves):
        note, frame = FLAT, _flat_parts(plan, name, pd.read_csv(results / f"{name}_flat.csv"))
    elif isinstance(figure, Plateau):
        note, frame = PLATEAU, _plateau(pd.read_csv(results / f"{name}.csv"))
    elif isinstance(figure, Matrices):
        note, frame = MATRICES, pd.read_csv(results / f"{name}.csv").rename(columns={"layers": ""})
    else:
        note, frame = LEARNED, _points(pd.read_csv(results / f"{name}.csv"))
    return {"name": name, "title": figure.title, "svg": _svg(results / f"{name}.csv"), "note": note, "frame": frame}


def _flat_parts(plan: Plan, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Where the curves of a figure become flat, and the ratio of the first to the second."""
    rows = []
    for measure, group in frame.groupby("measure", sort=False):
        means = group.groupby("curve", sort=False)["iteration"].mean()
        row = {"": measure, **{f"{label}: flat from": shown(mean, ",.0f") for label, mean in means.items()}}
        if len(means) > 1:
            first, second = means.index[:2]
            nets = plan.curves(name)
            estimate = ratio(*(independent_flat_parts(nets[label], group) for label in (first, second)))
            row[f"{first} / {second}"] = shown(estimate.value)
            is_known = estimate.low == estimate.low
            row["95 % interval"] = f"{shown(estimate.low)} to {shown(estimate.high)}" if is_known else "–"
        published = [
            c.published for c in plan.claims if c.compare == "figure" and (c.figure, c.measure) == (name, measure)
        ]
        row["published"] = f"about {published[0]:g}" if published else "–"
        rows.append(row)
    return pd.DataFrame(rows)


def _plateau(frame: pd.DataFrame) -> pd.DataFrame:
    """When the nets of a figure left the plateau."""
    left = [shown(value, ",.0f") if value == value else "never" for value in frame["left_at"]]
    iterations = frame["iterations"].map("{:,}".format)
    return pd.DataFrame({"": frame["curve"], "left after": left, "of": iterations, "last": frame["last"].map(shown)})


def _points(frame: pd.DataFrame) -> pd.DataFrame:
    """The points of a figure over depth, a column a method, in the figure's order."""
    kept = {column: pd.Categorical(frame[column], frame[column].unique()) for column in ("panel", "method")}
    points = frame.assign(**kept).groupby(["panel", "layers", "multiplications", "method"], observed=True)
    wide = points[["accuracy", "learned", "published"]].apply(_point).unstack("method", fill_value="–")
    wide.columns = wide.columns.astype(str)
    wide = wide.reset_index()
    return wide.assign(multiplications=wide["multiplications"].map("{:,}".format)).rename(columns={"panel": ""})


def _point(nets: pd.DataFrame) -> str:
    """A point's nets as people read them."""
    learned, published = nets["accuracy"][nets["learned"]], nets["published"].iloc[0]
    parts = [shown(learned.mean())] if len(learned) else []
    if failed := len(nets) - len(learned):
        parts.append("failed" if failed == len(nets) else f"({failed} of {len(nets)} failed)")
    return " ".join(parts) + (f" ({shown(published)})" if published == published else "")


def _timing(plan: Plan, name: str) -> dict[str, object]:
    settings = plan.preset.timings[name]
    frame = pd.read_csv(Path(plan.preset.results, f"{name}.csv"))
    kind = importlib.import_module(f"fspkd.report.{settings.kind}")
    return {
        "name": name,
        "title": settings.title,
        "how": kind.how(frame),
        "frame": kind.shown_timing(frame),
        "note": settings.note,
    }
