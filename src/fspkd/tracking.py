"""MLflow: the only module that knows it.

What is on disk is the truth, and what MLflow holds is a copy of it: a run's folder can be sent at any time, again, by
several processes and from another machine; what is there already is not sent twice.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from filelock import FileLock

from fspkd.plan import Plan, Run, digest
from fspkd.provenance import provenance
from fspkd.tables import read_manifest

if TYPE_CHECKING:
    import mlflow.entities

BATCH = 1000  # metrics, MLflow's limit
LOCK_SECONDS = 300
MEASURED = ("loss", "learning_rate", "gradient_norm", "test_loss", "test_accuracy")
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # compute nodes often have no way out
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # what a server does not take now is sent later
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Tracker:
    """The MLflow experiment of a preset: a run for each row of a table, below it one for each net and stage.

    The store is MLFLOW_TRACKING_URI or, where that is not set, mlflow.db in the working directory.
    """

    def __init__(self, plan: Plan) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient  # only here: it takes seconds to import

        self.plan = plan
        results = Path(plan.preset.results)
        results.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(results / "mlflow.lock", timeout=LOCK_SECONDS)
        self.sent: dict[str, int] = {}  # the last iteration that each tracked run holds
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        local = Path("mlflow.db").absolute()
        if not uri:
            with FileLock(f"{local}.lock", timeout=LOCK_SECONDS):
                if not local.exists():
                    _make_store(local)
        with self.lock:
            self.client = MlflowClient(uri or f"sqlite:///{local}")
            name = f"fspkd-{plan.preset.name}"
            found = self.client.get_experiment_by_name(name)
            place = None if uri else (local.parent / "mlartifacts" / name).as_uri()
            self.experiment = found.experiment_id if found else self.client.create_experiment(name, place)

    # --- what is sent -------------------------------------------------------------------------------------

    def send_run(self, run: Run, training: bool = False) -> None:
        """Send what a run's folder holds and MLflow does not: parameters, new points; the manifest when it is done."""
        metrics = next(
            (f for f in (run.folder / "metrics.csv", run.folder / "metrics.partial.csv") if f.exists()), None
        )
        if metrics is None:
            return
        with FileLock(run.folder / "mlflow.lock", timeout=LOCK_SECONDS):
            manifest_path = run.folder / "manifest.json"
            manifest = json.loads(manifest_path.read_text()) if manifest_path.exists() else None
            self._retire(run, manifest)
            tracked = self._open(
                run.id,
                f"{self._label(run.row)}{f', net {run.net}' if run.net else ''}{', stage 1' if run.stage == 1 else ''}",
                {
                    "kind": "net" if run.stage == 2 else "stage 1",
                    **self._row_tags(run.row),
                    "net": run.net or "shared",
                    "stage": run.stage,
                    "network": f"resnet{run.spec.network.depth}",
                    "method": run.spec.method.method,
                },
                parent=self._row(run.row),
                start=_milliseconds(manifest["finished"]) - int(1000 * manifest["seconds"]) if manifest else None,
            )
            if self.client.get_run(tracked).info.status == "FINISHED":
                return
            self._send_parameters(tracked, run.spec.model_dump(mode="json"))
            self._send_facts(
                tracked, {**manifest, **manifest["attempts"][-1]} if manifest else provenance(run.spec.method.method)
            )
            self._send_points(tracked, read_complete_rows(metrics))
            if manifest:
                for file in ("run.yaml", "manifest.json", "metrics.csv"):
                    self.client.log_artifact(tracked, str(run.folder / file))
                self.client.set_terminated(tracked, end_time=_milliseconds(manifest["finished"]))
            else:
                self.client.update_run(tracked, status="RUNNING" if training else "KILLED")

    def _retire(self, run: Run, manifest: dict | None) -> None:
        """Give up the identity of a finished tracked run whose net has since been trained to other weights."""
        found = self._find(run.id)
        weights = manifest["weights_sha256"] if manifest else None
        if found and found.info.status == "FINISHED" and found.data.tags.get("weights_sha256") != weights:
            self.client.set_tag(found.info.run_id, "fspkd.id", f"{run.id}, replaced")

    def send_data(self, run: Run) -> None:
        """Send what is known of the data set that a finished run was trained on."""
        data, manifest = run.data, read_manifest(run)
        tracked = self._open(data.id, f"data set {data.settings.name}", {"kind": "data"})
        self._send_parameters(tracked, {"name": data.settings.name, "sha256": manifest["inputs_sha256"]["data"]})
        self.client.set_terminated(tracked)

    def send_table(self, name: str, frame: pd.DataFrame, files: list[Path]) -> None:
        """Send a table's rows, with their nets' mean curves, and the table itself as the artifact of a run of its own."""
        rows = self.plan.preset.tables[name].rows
        for (_, cells), row in zip(frame.iterrows(), rows.values(), strict=True):
            for run in self.plan.row_runs(row):
                self.send_run(run)
            self.send_data(self.plan.rows[row][0])
            tracked = self._row(row)
            curves = [pd.read_csv(run.folder / "metrics.csv") for run in self.plan.rows[row]]
            mean = pd.concat(curves).groupby("iteration", as_index=False).mean()
            self._send_points(tracked, mean.dropna(subset="test_accuracy"))
            self._send_values(tracked, {k: cells[k] for k in ("average", "ensemble", "iterations")})
            self.client.set_terminated(tracked)
        self._send_result("table", name, [run for row in rows.values() for run in self.plan.rows[row]], files)

    def send_figure(self, name: str, files: list[Path]) -> None:
        """Send a figure's nets, and the figure itself as the artifact of a run of its own."""
        runs = [self.plan.net(net) for net in self.plan.preset.figures[name].curves.values()]
        for run in runs:
            for part in self.plan.row_runs(run.row):
                self.send_run(part)
            self.client.set_terminated(self._row(run.row))
        self._send_result("figure", name, runs, files)

    def send_timing(self, name: str, file: Path) -> None:
        """Send a time comparison as the artifact of a run of its own."""
        rows = self.plan.preset.timings[name].rows
        self._send_result("timing", name, [run for row in rows for run in self.plan.row_runs(row)], [file])

    # --- how ----------------------------------------------------------------------------------------------

    def _open(
        self, identity: str, name: str, tags: dict[str, object], parent: str | None = None, start: int | None = None
    ) -> str:
        """The id of the tracked run of that identity, made where there is none yet."""
        tags = {"preset": self.plan.preset.name, "seed": self.plan.preset.seed, **tags, "fspkd.id": identity}
        if parent:
            tags["mlflow.parentRunId"] = parent
        with self.lock:
            if found := self._find(identity):
                return found.info.run_id
            texts = {key: str(value) for key, value in tags.items()}
            return self.client.create_run(self.experiment, start, texts, name).info.run_id

    def _find(self, identity: str) -> "mlflow.entities.Run | None":
        found = self.client.search_runs([self.experiment], f"tags.`fspkd.id` = '{identity}'", max_results=1)
        return found[0] if found else None

    def _label(self, row: str) -> str:
        """What a table calls a row, or else the row's own name."""
        labels = {r: label for table in self.plan.preset.tables.values() for label, r in table.rows.items()}
        return labels.get(row, row)

    def _row_tags(self, row: str) -> dict[str, str]:
        tables = [name for name, table in self.plan.preset.tables.items() if row in table.rows.values()]
        return {"row": self._label(row), "table": ", ".join(tables)}

    def _row(self, row: str) -> str:
        identity = f"{row}-{digest([run.id for run in self.plan.row_runs(row)])}"
        return self._open(identity, self._label(row), {"kind": "row", **self._row_tags(row)})

    def _send_result(self, kind: str, name: str, runs: list[Run], files: list[Path]) -> None:
        tracked = self._open(f"{name}-{digest([run.id for run in runs])}", name, {"kind": kind, kind: name})
        for file in files:
            self.client.log_artifact(tracked, str(file))
        self.client.set_terminated(tracked)

    def _send_parameters(self, tracked: str, parameters: dict[str, object]) -> None:
        from mlflow.entities import Param

        flat = pd.json_normalize(parameters).iloc[0].to_dict() if parameters else {}
        self.client.log_batch(tracked, params=[Param(key, str(value)) for key, value in flat.items()])

    def _send_points(self, tracked: str, rows: pd.DataFrame) -> None:
        """Send the rows beyond the last iteration that MLflow holds, whole rows to a batch."""
        from mlflow.entities import Metric

        if tracked not in self.sent:
            held = self.client.get_metric_history(tracked, "loss")
            self.sent[tracked] = max((point.step for point in held), default=0)
        now = int(datetime.now().timestamp() * 1000)
        batch = []
        for row in rows[rows["iteration"] > self.sent[tracked]].to_dict("records"):
            points = [Metric(k, row[k], now, int(row["iteration"])) for k in MEASURED if pd.notna(row[k])]
            if len(batch) + len(points) > BATCH:
                self._send_batch(tracked, batch)
                batch = []
            batch += points
        if batch:
            self._send_batch(tracked, batch)

    def _send_batch(self, tracked: str, batch: list["mlflow.entities.Metric"]) -> None:
        self.sent.pop(tracked)  # unknown, should this fail half-way
        self.client.log_batch(tracked, metrics=batch)
        self.sent[tracked] = batch[-1].step

    def _send_values(self, tracked: str, values: dict[str, float]) -> None:
        """Send single values, each once."""
        held = self.client.get_run(tracked).data.metrics
        for key, value in values.items():
            if held.get(key) != float(value):
                self.client.log_metric(tracked, key, float(value))

    def _send_facts(self, tracked: str, facts: dict[str, object]) -> None:
        from mlflow.entities import RunTag

        names = ("git_commit", "host", "job_id", "gpu", "device", "weights_sha256")
        tags = [RunTag(name, str(facts[name])) for name in names if facts.get(name) is not None]
        self.client.log_batch(tracked, tags=tags)


def _make_store(path: Path) -> None:
    """Make an empty sqlite store. Its many tables appear at once: a part of them would stop every other process."""
    from mlflow import MlflowClient

    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    MlflowClient(f"sqlite:///{unfinished}").search_experiments()
    unfinished.replace(path)


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def read_complete_rows(metrics: Path) -> pd.DataFrame:
    """The rows of a metrics file that may be growing: a last line without its end is left out."""
    content = metrics.read_bytes()
    return pd.read_csv(io.BytesIO(content[: content.rfind(b"\n") + 1]))


def attempt(send: Callable[[], None]) -> None:
    """Send something; what goes wrong is told and does no harm, since the next step sends it again."""
    try:
        send()
    except Exception as error:  # a tracking server may fail in any way; results must not
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"tracking: not sent, the next table or figure will send it: {reason}", file=sys.stderr)
