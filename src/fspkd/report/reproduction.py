"""A preset's exported runs, and what is computed from them alone: tables, figures, claims, and a list of the nets."""

import shutil
from pathlib import Path
from typing import cast

import pandas as pd

from fspkd.config.load import CONFIG
from fspkd.config.preset import Preset
from fspkd.config.results import Matrices
from fspkd.data.sets import LOCATION_VARIABLE
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.plans import load_plans, not_found
from fspkd.report import claims, figures, tables
from fspkd.result import Result, wanted_by_results
from fspkd.runs.exported import export_run
from fspkd.runs.folder import ExportedFolder
from fspkd.runs.spec import Run

REPRODUCTION = Path("reproduction")


def exported_plan(name: str) -> Plan:
    """The plan of the preset of that name, with runs and results in reproduction/<name>/.

    Raises UserError if no preset has that name.
    """
    plans, problems = load_plans()
    preset = next((plan.preset for plan in plans.values() if plan.preset.name == name), None)
    if preset is None:
        raise not_found(f"{REPRODUCTION / name}: no preset in {CONFIG}/ is called {name!r}.", problems)
    return exported(preset)


def exported(preset: Preset) -> Plan:
    """As exported_plan, for a preset."""
    place = REPRODUCTION / preset.name
    here = preset.model_copy(update={"results": str(place)})
    return Plan(here, environment={}, runs=place / "runs", folder=ExportedFolder)


def export(plan: Plan, with_weights: bool = False) -> list[Run]:
    """Export, and return, a preset's finished runs that results need; also export the results that do not follow from them.

    These are time comparisons, and figures of matrices, which need weights. Raises UserError, before anything is written,
    for runs whose name depends on where the images are.
    """
    there = exported(plan.preset)
    finished = [run for run in wanted_by_results(plan) if run.folder.is_finished]
    if elsewhere := sorted({run.data.settings.name for run in finished if run.id not in there.runs}):
        variables = ", ".join(LOCATION_VARIABLE.format(name=name.upper()) for name in elsewhere)
        raise UserError(
            f"{plan.preset.results}: nets on {', '.join(elsewhere)} are identified by where the images are ({variables}), "
            f"so others could not find them. Pin the images: give the data set a sha256, and train again."
        )
    for run in finished:
        export_run(run, cast(ExportedFolder, there.run(run.id).folder), with_weights)
    files = [f"{timing}.csv" for timing in plan.preset.timings]
    files += [f"{name}{end}" for name in _of_weights(plan) for end in (".csv", ".png")]
    for file in files:
        if (made := Path(plan.preset.results) / file).exists():
            write_atomically(Path(there.preset.results) / file, made.read_bytes())
    return finished


def of_former_settings(plan: Plan) -> list[Path]:
    """The folders of an exported plan's runs that do not follow from its preset any more."""
    folders = sorted((Path(plan.preset.results) / "runs").glob("*/*"))
    return [folder for folder in folders if folder.name not in plan.runs]


def recompute(plan: Plan) -> list[Path]:
    """Write the tables, figures, claims and the list of nets of an exported plan into its folder; returns their paths.

    Only tables with at least one finished net are written, and figures with at least one for each curve or point that need
    no weights; others, of nets that were there before, are deleted.
    """
    written = []
    for name, table in plan.preset.tables.items():
        if any(net.folder.is_finished for net in plan.shown(table.rows)):
            written.append(tables.write(plan, name))
        else:
            _delete(Result(plan, "table", name))
    for name in plan.preset.figures:
        if name in _of_weights(plan):
            continue
        if all(any(net.folder.is_finished for net in nets) for nets in plan.drawn(name)):
            written.append(figures.write(plan, name))
        else:
            _delete(Result(plan, "figure", name))
    if plan.claims:
        written.append(claims.write(plan))
    written.append(Path(plan.preset.results) / "nets.csv")
    write_atomically(written[-1], nets(plan).to_csv(index=False).encode())
    return written


def _delete(result: Result) -> None:
    for file in map(Path, result.files):
        file.unlink(missing_ok=True)
    if result.kind == "table":
        shutil.rmtree(tables.metrics_folder(result), ignore_errors=True)


def nets(plan: Plan) -> pd.DataFrame:
    """A line for each finished run: what it is, its accuracy, what made it, and what it cost."""
    lines, labels = [], _labels(plan)
    for run in wanted_by_results(plan):
        if not run.folder.is_finished:
            continue
        manifest = run.folder.read_manifest()
        last = manifest.attempts[-1]
        lines.append(
            {
                "run": run.id,
                "row": run.spec.row,
                "number": run.spec.number,
                "replicate": run.spec.replicate,
                "stage": run.spec.stage,
                "shown_as": "; ".join(labels.get(run, [])),
                "data": run.spec.data,
                "held_out": run.data.settings.hold_out or 0,
                "start": run.spec.start,
                "teacher": run.spec.teacher,
                "test_accuracy": None if manifest.test_accuracy is None else round(manifest.test_accuracy, 2),
                "iterations": manifest.iterations,
                "hours": round(manifest.seconds / 3600, 2),
                "finished": manifest.finished,
                "commit": last.git_commit,
                "device": last.device,
                "processor": last.processor,
                "precision": last.precision,
                "threads": last.threads,
                "instructions": last.onednn_instructions or last.instructions,
                "weights_sha256": manifest.weights_sha256,
            }
        )
    return pd.DataFrame(lines).astype({"number": "Int64"} if lines else {})


def _labels(plan: Plan) -> dict[Run, list[str]]:
    """The tables that show a net, each with the label of its row there."""
    labels: dict[Run, list[str]] = {}
    for name, table in plan.preset.tables.items():
        for label, reference in table.rows.items():
            for net in plan.nets(reference):
                labels.setdefault(net, []).append(f"{name}: {label}")
    return labels


def _of_weights(plan: Plan) -> set[str]:
    """The figures that are computed from weights."""
    return {name for name, figure in plan.preset.figures.items() if isinstance(figure, Matrices)}
