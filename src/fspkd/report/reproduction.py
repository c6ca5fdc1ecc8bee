"""A preset's exported runs, and what is computed from them alone: tables, figures, claims, and a list of the nets."""

from pathlib import Path
from typing import cast

import pandas as pd

from fspkd.config.load import CONFIG, load_preset, preset_files
from fspkd.config.results import InferenceTime
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.claims import write_claims
from fspkd.report.figures import drawn_by
from fspkd.report.tables import make_table, write_table
from fspkd.runs.exported import export_run
from fspkd.runs.folder import ExportedFolder
from fspkd.runs.spec import Run

REPRODUCTION = Path("reproduction")


def exported_plan(name: str) -> Plan:
    """The plan of the preset of that name, of which reproduction/<name>/ holds the runs and gets the results.

    Raises UserError where no preset has that name.
    """
    for path in preset_files(CONFIG).values():
        preset = load_preset(path)
        if preset.name == name:
            place = REPRODUCTION / name
            here = preset.model_copy(update={"results": str(place)})
            return Plan(here, environment={}, runs=place / "runs", folder=ExportedFolder)
    raise UserError(f"{REPRODUCTION / name}: no preset in {CONFIG}/ is called {name!r}.")


def export(plan: Plan) -> list[Run]:
    """Export the finished runs that the results of a preset show, and its time comparisons; gives those runs."""
    exported = exported_plan(plan.preset.name)
    finished = [run for run in _shown(plan) if run.folder.is_finished]
    for run in finished:
        export_run(run, cast(ExportedFolder, exported.run(run.id).folder))
    for timing in plan.preset.timings:
        if (measured := Path(plan.preset.results) / f"{timing}.csv").exists():
            write_atomically(Path(exported.preset.results) / measured.name, measured.read_bytes())
    return finished


def recompute(plan: Plan) -> list[Path]:
    """Write the tables, figures, claims and the list of nets of an exported plan into its folder; gives their paths.

    Of tables, those of which a net is there; of figures, those of which a net of each curve, or point, is.
    """
    preset, place = plan.preset, Path(plan.preset.results)
    written = []
    for name, table in preset.tables.items():
        if any(net.folder.is_finished for net in plan.shown(table.rows)):
            written.append(place / f"{name}.csv")
            write_table(make_table(plan, name), plan, name, written[-1])
    for name in preset.figures:
        if all(any(net.folder.is_finished for net in nets) for nets in plan.drawn(name)):
            written.append(place / f"{name}.png")
            drawn_by(plan, name).write(plan, name, written[-1])
    if plan.claims:
        written.append(place / "claims.csv")
        write_claims(plan, written[-1])
    written.append(place / "nets.csv")
    write_atomically(written[-1], nets(plan).to_csv(index=False).encode())
    return written


def nets(plan: Plan) -> pd.DataFrame:
    """A line for each finished run: what it reached, what made it, and what it cost."""
    lines = []
    for run in _shown(plan):
        if not run.folder.is_finished:
            continue
        manifest = run.folder.read_manifest()
        last = manifest.attempts[-1]
        lines.append(
            {
                "run": run.id,
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
    return pd.DataFrame(lines)


def _shown(plan: Plan) -> list[Run]:
    """The runs that a preset's results are made of, each once."""
    preset = plan.preset
    shown = [row for table in preset.tables.values() for row in table.rows.values()]
    shown += [row for figure in preset.figures.values() for row in figure.nets]
    shown += [net for timing in preset.timings.values() if isinstance(timing, InferenceTime) for net in timing.nets]
    return list(dict.fromkeys(run for row in shown for run in plan.row_runs(row)))
