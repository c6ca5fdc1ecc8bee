"""A preset in MLflow: an experiment with a run for each table row, and below it one for each net and stage."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pandas as pd
from mlflow.entities import Run as TrackedRun

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report.columns import is_net
from fspkd.report.tables import PUBLISHED, make_table, row_values
from fspkd.result import results_of
from fspkd.runs.folder import RUNS, Attempt, Manifest, RunFolder
from fspkd.runs.journal import Journal, final_measurements, read_journal, trusted_journal, usage
from fspkd.runs.spec import Run, run_in, with_origins
from fspkd.tracking.labels import digest_of, quantity, row_tags, title
from fspkd.tracking.shown import Shown
from fspkd.tracking.store import Store
from fspkd.train.metrics import COLUMNS, VALIDATION_COLUMNS

TESTED = ("test_loss", "test_accuracy")
MEASURED = (*COLUMNS[1:], *VALIDATION_COLUMNS)
FORMER = "former settings"  # in the names of runs that do not follow from the present ones


class Sync:
    """Sends what is in a preset's folder of results but not yet in the store."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.preset = plan, plan.preset
        tables = "\n".join(f"- **{name}**: {table.title}" for name, table in self.preset.tables.items())
        about = (
            f"Preset `{self.preset.name}`, which writes to {self.preset.results}.\n\n{tables}\n\nA run for each row of a "
            f"table, with its nets below it. To search: `tags.kind = 'row'`, or `tags.kind = 'net' AND tags.stage1 = 'fsp'`."
        )
        self.store = Store(f"fspkd-{self.preset.name}", about)
        self.complete: set[str] = set()  # runs and rows that are sent completely
        self.foreign: set[str] = set()  # finished runs, not of the plan, that were trained for other presets
        self.in_results: set[str] = set()  # runs, also of other presets, that this one's results are made from
        self.begun: set[str] = set()  # runs that are sent at least in part
        self.orphans: set[str] = set()  # complete runs below a row that was replaced since
        self.shown = Shown(plan, self.store, self.complete)
        self.damage: dict[str, bool] = {}  # which keeps nothing from being sent, and whether it was reported

    def send_all(self) -> list[str]:
        """Send runs, each after those that it links to, rows, each after its runs, then tables and figures.

        Returns a message for each damaged part, and sends the rest. Raises whatever MLflow raises if the store
        does not answer.
        """
        self.store.refresh()
        self.in_results = self._in_results()
        self._leave_former()
        runs = {run.id: run for run in [*self.plan.runs.values(), *self._former_runs()]}
        parts: list[tuple[str, Callable[[Any], None], Any]] = []
        left = {row: {run.id for run in self.plan.row_runs(row)} for row in self.plan.rows}
        for name, run in runs.items():
            parts.append((name, self._run, run))
            for row, missing in left.items():
                if name in missing:
                    missing.remove(name)
                    parts += [] if missing else [(row, self._row, row)]
        parts += [(f"table {table}", self.shown.send_table, table) for table in self.shown.tables]
        parts += [(f"figure {figure}", self.shown.send_figure, figure) for figure in self.shown.figures]
        problems = []
        for name, send, part in parts:
            if name not in self.complete:
                try:
                    send(part)
                except (UserError, ValueError, KeyError, OSError) as problem:
                    if isinstance(problem, OSError) and not _is_of_results(problem):
                        raise
                    problems.append(f"{name}: {type(problem).__name__}: {problem}")
        return problems

    def new_damage(self) -> list[str]:
        """A message for each damaged file whose content was sent nevertheless, once."""
        new = [message for message, is_told in self.damage.items() if not is_told]
        self.damage |= dict.fromkeys(new, True)
        return new

    def _in_results(self) -> set[str]:
        """The runs in the tables and figures that have been made, and what these start from and learn from."""
        drawn = [result for result in results_of(self.plan) if result.kind in ("table", "figure")]
        made = [result for result in drawn if Path(result.file).exists()]
        return {run.id for run in with_origins(run for result in made for run in result.runs)}

    def _former_runs(self) -> Iterator[Run]:
        """The runs that were trained for this preset under former settings, except those that are sent."""
        for file in sorted(RUNS.glob(f"*/*/{RunFolder(Path()).specification.name}")):
            folder, name = RunFolder(file.parent), file.parent.name
            if name in self.plan.runs or name in self.complete or name in self.foreign:
                continue
            try:
                is_finished, journal = folder.is_finished, read_journal(folder)
            except OSError as error:  # such as somebody else's that may not be read
                self.damage.setdefault(f"{error.filename}: {error.strerror}, so it is not sent", False)
                continue
            if journal and journal.attempt.preset == self.preset.name:
                with suppress(UserError):  # from a version of this package with other settings
                    yield run_in(folder)
            elif journal and is_finished:
                self.foreign.add(name)

    def _leave_former(self) -> None:
        """Mark the names of rows, tables and figures of former settings, as those of nets are, and end those that are open."""
        present = {self._row_id(row) for row in self.plan.rows} | self.shown.identities()
        for identity, run in self.store.runs.items():
            is_shown = run.data.tags.get("kind") in ("row", "table", "figure")
            if is_shown and identity not in present:
                self.store.leave(identity, f", {FORMER}")

    # --- a net, one stage ---------------------------------------------------------------------------------

    def _journal(self, folder: RunFolder) -> tuple[Journal | None, bool]:
        """A run's journal, if any, and whether it is damaged, as `trusted_journal` has it; damage is noted."""
        journal, is_damaged = trusted_journal(folder)
        if is_damaged:
            left = (
                "the times of its points are estimated from its manifest"
                if folder.is_finished
                else "the rest is sent later"
            )
            self.damage.setdefault(f"{folder.journal}: is missing or damaged: {left}", False)
        return journal, is_damaged

    def _run(self, run: Run) -> None:
        # The run's state is read before its journal, which may then say more but never less.
        training = run.folder.is_training
        manifest = run.folder.read_manifest() if run.folder.is_finished and not training else None
        journal, is_damaged = self._journal(run.folder)
        if journal is None or not (journal.attempt.preset == self.preset.name or run.id in self.in_results):
            return
        self.begun.add(run.id)
        held = self.store.runs.get(run.id)
        if held and self._is_another(held, journal, manifest if is_damaged else None):
            # Its row too, but only once for all its nets: only if it has values, which are those of the former nets. And
            # first, since after a failure in between only the net itself still tells that it is another.
            row = self.store.runs.get(self._row_id(run.spec.row)) if run.id in self.plan.runs else None
            if row and row.data.metrics:
                self.store.replace(self._row_id(run.spec.row))
                self.complete.discard(run.spec.row)
                self.orphans |= self.complete.intersection(other.id for other in self.plan.row_runs(run.spec.row))
            self.store.replace(run.id)
        tags = {**row_tags(self.preset, run.spec.row), **self._tags(run, journal.attempt)}
        if manifest:
            tags["weights_sha256"] = manifest.weights_sha256
            tags |= {"best_iteration": manifest.best_iteration} if manifest.best_iteration else {}
        parent = self._open_row(run.spec.row) if run.id in self.plan.runs else None
        tracked = self.store.open(run.id, self._name(run), tags, parent, journal.started)
        if manifest and self.store.is_finished(run.id):
            self.complete.add(run.id)
            return
        self.store.parameters(run.id, run.spec.model_dump(mode="json"))
        rows = final_measurements(run.folder, journal)
        rows = rows[rows["iteration"] > self.store.last_step(tracked, "loss")]
        self.store.points(tracked, _points(rows, "iteration", MEASURED))
        self._usage(run, tracked)
        if manifest:
            self._finish(run, journal, manifest, tracked)
        elif training:
            self.store.set_status(run.id, "RUNNING")
        else:
            self.store.set_status(run.id, "FAILED" if journal.failure else "KILLED", journal.ended)

    @staticmethod
    def _is_another(held: TrackedRun, journal: Journal, manifest: Manifest | None) -> bool:
        """Whether a held run is of another training; `manifest`, if the journal was made from it, as its start is estimated."""
        if manifest:
            return held.data.tags.get("weights_sha256", manifest.weights_sha256) != manifest.weights_sha256
        return held.info.start_time != journal.started

    def _finish(self, run: Run, journal: Journal, manifest: Manifest, tracked: str) -> None:
        folder, images = run.folder, manifest.images
        name = run.spec.data.rsplit("-", 1)[0]
        self.store.data_set(tracked, name, cast(str, manifest.inputs_sha256["data"]))
        self.store.artifacts(run.id, [folder.specification, folder.manifest, folder.vouched(folder.metrics)])
        if run.spec.stage == 2:
            from fspkd.train.nets import finished_net

            net = finished_net(run, images.shape, len(images.classes))
            at = manifest.best_iteration or manifest.iterations
            model = self.store.model(run.id, run.id, net, images, at)
            rows = final_measurements(folder, journal)
            self.store.points(tracked, _points(rows[rows["iteration"] == at], "iteration", TESTED), model)
            if manifest.best_iteration:
                kept = {"kept_test_accuracy": cast(float, manifest.test_accuracy)}
                self.store.points(tracked, [(at, journal.ended, kept)])
        self.store.set_status(run.id, "FINISHED", journal.ended)
        self.complete.add(run.id)

    def _usage(self, run: Run, tracked: str) -> None:
        frame = usage(run.folder).reset_index(names="sample")
        keys = [key for key in frame if key not in ("sample", "time")]
        frame = frame.rename(columns={key: f"system/{key}" for key in keys})
        frame["sample"] += 1
        sent = self.store.last_step(tracked, "system/cpu_utilization_percentage")
        self.store.points(tracked, _points(frame[frame["sample"] > sent], "sample", [f"system/{key}" for key in keys]))

    def _name(self, run: Run) -> str:
        spec = run.spec
        parts = [title(self.preset, spec.row)]
        parts += [f"replicate {spec.replicate}"] if spec.replicate > 1 else []
        parts += [f"net {spec.number}"] if spec.number else []
        parts += ["stage 1"] if spec.stage == 1 else []
        parts += [] if run.id in self.plan.runs else [FORMER]
        return ", ".join(parts)

    def _tags(self, run: Run, attempt: Attempt) -> dict[str, object]:
        """Tags to tell runs apart in a search; stages 1 and 2 are linked both by tags and in the description."""
        spec = run.spec
        first = run if spec.stage == 1 else run.stage1
        tags = {
            "kind": "net" if spec.stage == 2 else "stage 1",
            "net": spec.number or "shared",
            "stage": spec.stage,
            "replicate": spec.replicate,
            "network": spec.network.name,
            "method": spec.method.method,
            "start": spec.start or "scratch",
            "teacher": spec.teacher or "none",
        }
        if first or run.id in self.plan.runs:  # for former settings only the id of the start is known
            tags["stage1"] = first.spec.method.method if first else "none"
        machine = {key: getattr(attempt, key) for key in ("git_commit", "host", "job_id", "gpu", "device", "processor")}
        tags |= {key: value for key, value in machine.items() if value}
        tags |= {"mlflow.source.type": "LOCAL", "mlflow.source.name": "scripts/train.py"}
        if attempt.git_commit:
            tags["mlflow.source.git.commit"] = attempt.git_commit.removesuffix("-dirty")
        return {**tags, "mlflow.note.content": self._description(run)}

    def _description(self, run: Run) -> str:
        spec = run.spec
        start = self.store.link(spec.start) if spec.start else "initialised from the seed"
        most = "at most " if spec.training.stop else ""
        text = f"`{run.folder}`: {most}{spec.iterations:,} iterations of {spec.method.method}.\n\nStarts from: {start}."
        if spec.teacher:
            text += f"\n\nTeacher: {self.store.link(spec.teacher)}."
        return text

    # --- a row --------------------------------------------------------------------------------------------

    def _row_id(self, row: str) -> str:
        return f"{row}-{digest_of(self.plan, [row])}"

    def _open_row(self, row: str) -> str:
        settings = self.preset.rows[row]
        first = (self.preset.rows[settings.stage1_of] if settings.stage1_of else settings).stage1
        tags = {"kind": "row", **row_tags(self.preset, row), "stage1": first.method if first else "none"}
        nets = len(self.plan.nets(row))
        tags["mlflow.note.content"] = (
            f"The mean of {nets} nets, their average and ensemble {quantity(self.preset, row)} in percent, and the paper's "
            f"(`..._published`)."
        )
        identity, start = self._row_id(row), None
        if identity not in self.store.runs:
            journals = (read_journal(run.folder) for run in self.plan.row_runs(row))
            start = min((journal.started for journal in journals if journal), default=None)
        return self.store.open(identity, title(self.preset, row), tags, None, start)

    def _row(self, row: str) -> None:
        """Send the settings of a row; when all its nets are there, their mean curves and the row's values.

        A mean is over the nets still in training. Values that have changed since, such as published ones, are sent again.
        """
        runs = self.plan.row_runs(row)
        for run in runs:
            if run.id in self.orphans:
                self._run(run)
                self.orphans.remove(run.id)
        begun = [run for run in runs if run.id in self.begun]
        if not begun:
            return
        tracked, identity = self._open_row(row), self._row_id(row)
        if self.store.is_finished(identity):
            if self.complete.issuperset(run.id for run in runs):
                self._send_changed(row, identity)
            self.complete.add(row)
            return
        self.store.parameters(identity, self.preset.rows[row].model_dump(mode="json"))
        if any(run.id not in self.complete for run in runs):
            training = any(run.folder.is_training for run in begun)
            self.store.set_status(identity, "RUNNING" if training else "SCHEDULED")
            return
        nets = self.plan.nets(row)
        journals = {run: journal for run in runs if (journal := self._journal(run.folder)[0])}  # all: each is finished
        measured = [final_measurements(run.folder, journals[run]) for run in nets]
        mean = pd.concat(measured).groupby("iteration", as_index=False).mean().dropna(subset="test_accuracy")
        longest = max(measured, key=len).set_index("iteration")
        mean["time"] = longest.loc[mean["iteration"], "time"].to_numpy()
        mean = mean[mean["iteration"] > self.store.last_step(tracked, "loss")]
        self.store.points(tracked, _points(mean, "iteration", MEASURED))
        end = max(journal.ended for journal in journals.values())
        self.store.points(tracked, [(0, end, self._values(row))])
        self.store.set_status(identity, "FINISHED", end)
        self.complete.add(row)

    def _send_changed(self, row: str, identity: str) -> None:
        """Send those values of a finished row that differ from what the store has."""
        run = self.store.runs[identity]
        try:
            values = self._values(row)
        except UserError as error:  # such as predictions that are gone, of nets that are sent
            self.damage.setdefault(str(error), False)
            return
        changed = {key: value for key, value in values.items() if run.data.metrics.get(key) != value}
        self.store.points(run.info.run_id, [(0, int(1000 * time.time()), changed)] if changed else [])

    def _values(self, row: str) -> dict[str, float]:
        """Average, ensemble and iterations of a finished row, ours and the published ones."""
        for name, table in self.preset.tables.items():
            for label, r in table.rows.items():
                if r == row:
                    cells = make_table(self.plan, name, [label]).iloc[0]
                    keys = [key for key in cells.index[1:] if not is_net(key.removesuffix(PUBLISHED))]
                    values = {key: round(float(cells[key]), 2) for key in keys if pd.notna(cells[key])}
                    # For single nets too, so that all rows have the column that readers sort by.
                    own = {f"average{end}": values.get(f"{table.measured}{end}") for end in ("", PUBLISHED)}
                    return {key: value for key, value in own.items() if value is not None} | values
        values = row_values(self.plan, row)
        return {key: round(values[key], 2) for key in ("average", "ensemble") if key in values}


def _points(frame: pd.DataFrame, step: str, keys: Sequence[str]) -> Iterator[tuple[int, int, dict[str, float]]]:
    for row in frame.to_dict("records"):
        yield int(row[step]), int(row["time"]), {key: row[key] for key in keys if pd.notna(row.get(key))}


def _is_of_results(error: OSError) -> bool:
    """Whether an error is about a file of results that cannot be opened, and not the network or a file of MLflow's."""
    return error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(RUNS.parent)
