"""An MLflow store, local or a server: the only module that calls MLflow.

Everything here can be repeated, also after a failure, and leaves one copy: what is there is looked up first, and points
carry the time at which they were measured, by which MLflow recognises them.
"""

import hashlib
import json
import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import mlflow.pytorch
import numpy as np
import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.credentials import get_default_host_creds
from torch import nn

from fspkd.errors import UserError
from fspkd.files import file_sha256, temporary_beside
from fspkd.runs.folder import ImageFacts

IDENTITY = "identity"  # a tag that identifies a tracked run within its experiment, among those of its folder
PLACE = "sent_from"  # a tag: the folder that a tracked run was sent from, the same from any machine
REPLACED = ", replaced"  # appended to the identity of a run that another replaces
BATCH = 1000  # points, MLflow's limit
ARTIFACTS = "mlartifacts"  # the folder beside mlflow.db with the files of its runs
VIEW = "rows"  # the name of the view that readers see first
PAGE = {  # tags that make MLflow's pages show it
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{VIEW}": json.dumps(
        {
            "searchFilter": "",
            "orderByKey": "attributes.start_time",
            "orderByAsc": True,
            "selectedColumns": [
                "attributes.`Duration`",
                "tags.`table`",
                *(f"metrics.`{key}`" for key in ("average", "average_published", "ensemble", "test_accuracy")),
            ],
        }
    ),
}
SERVER_ERROR = 500
SECONDS_TO_ANSWER = 3
SECONDS_OF_A_CALL = 20
SECONDS_OF_FILES = 300  # of a call that sends files


class Store:
    """One experiment of MLFLOW_TRACKING_URI or, if that is not set, of mlflow.db in the working directory.

    Holds the runs that were sent from the working directory, and leaves others alone. Raises UserError if the experiment
    was deleted, or if mlflow.db keeps its files in another folder, and whatever MLflow raises if the store does not answer.
    """

    def __init__(self, experiment: str, description: str) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        files_at = None
        if not uri:
            local = Path("mlflow.db").absolute()
            if not local.exists():
                _make_local(local)
            uri, files_at = f"sqlite:///{local}", (local.parent / ARTIFACTS / experiment).as_uri()
        _check(uri)
        with _told_how_to_upgrade(uri):
            client = MlflowClient(uri)
            self.client = LimitedClient(client) if uri.startswith("http") else client
            found = self.client.get_experiment_by_name(experiment)
        if found and found.lifecycle_stage == "deleted":
            raise UserError(
                f"the experiment {experiment} was deleted in MLflow, but keeps its name until it is removed for good. Restore "
                f"it, or free its name: MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id "
                f"{found.experiment_id}, or mlflow gc --experiment-ids {found.experiment_id}"
            )
        files = found.artifact_location if found else None
        if files_at and files and files != files_at and files.endswith(f"/{ARTIFACTS}/{experiment}"):
            raise UserError(
                f"mlflow.db was made in another folder, and the files of its runs are in {files}. Move this folder back there, "
                f"or start anew: rm -r mlflow.db {ARTIFACTS}; what is below results/ is then sent again."
            )
        self.experiment = found.experiment_id if found else self.client.create_experiment(experiment, files_at)
        tags = {"mlflow.note.content": description, **PAGE}
        for key, text in tags.items():
            if not found or found.tags.get(key) != text:
                self.client.set_experiment_tag(self.experiment, key, text)
        self.place = f"{Path.cwd()}, inode {Path.cwd().stat().st_ino}"
        self.is_local = bool(files_at)
        self.runs: dict[str, Run] = {}  # by identity
        self._last: dict[tuple[str, str], int] = {}  # steps, by run and metric
        self.refresh()

    @property
    def page(self) -> str:
        """The path of a server's page with the runs of this experiment."""
        return f"/#/experiments/{self.experiment}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"

    def refresh(self) -> None:
        """Load what all processes have sent from here."""
        quote = "'" if '"' in self.place else '"'
        own = f"tags.{PLACE} = {quote}{self.place}{quote}"
        if self.is_local:  # it cannot be moved, so its path is enough; inodes change where a folder is restored
            own = f"tags.{PLACE} LIKE {quote}{Path.cwd()}, inode %{quote}"
        self.runs, page = {}, None
        while page != "":
            held = self.client.search_runs([self.experiment], own, max_results=1000, page_token=page)
            known = {run.data.tags[IDENTITY]: run for run in held if IDENTITY in run.data.tags}
            self.runs |= {identity: run for identity, run in known.items() if not identity.endswith(REPLACED)}
            page = held.token or ""

    # --- runs ---------------------------------------------------------------------------------------------

    def open(self, identity: str, name: str, tags: dict[str, object], parent: str | None, start: int | None) -> str:
        """The id of the tracked run with that identity, created if there is none, with that name and those tags."""
        texts = {key: str(value) for key, value in tags.items()} | {IDENTITY: identity, PLACE: self.place}
        if parent:
            texts["mlflow.parentRunId"] = parent
        run = self.runs.get(identity)
        if run is None:
            run = self.runs[identity] = self.client.create_run(self.experiment, start, texts, name)
        run_id = run.info.run_id
        if run.info.run_name != name:
            self.client.update_run(run_id, name=name)
        if changed := [RunTag(key, text) for key, text in texts.items() if run.data.tags.get(key) != text]:
            self.client.log_batch(run_id, tags=changed)
        return run_id

    def replace(self, identity: str) -> None:
        """Take the identity from the tracked run that has it, if any, and end that run; a new run can then have it."""
        if identity in self.runs:
            self.leave(identity, REPLACED)
            self.client.set_tag(self.runs.pop(identity).info.run_id, IDENTITY, f"{identity}{REPLACED}")

    def leave(self, identity: str, mark: str) -> None:
        """End a tracked run to which nothing more will be added, if it has not ended, and append a mark to its name."""
        run = self.runs[identity]
        if run.info.status in ("RUNNING", "SCHEDULED"):
            self.client.set_terminated(run.info.run_id, "KILLED")
        if not run.info.run_name.endswith(mark):
            self.client.update_run(run.info.run_id, name=f"{run.info.run_name}{mark}")

    def is_finished(self, identity: str) -> bool:
        """Whether the run with that identity has finished."""
        return identity in self.runs and self.runs[identity].info.status == "FINISHED"

    def link(self, identity: str) -> str:
        """A Markdown link to a tracked run, or its identity alone if it was not sent."""
        if identity not in self.runs:
            return identity
        return f"[{identity}](#/experiments/{self.experiment}/runs/{self.runs[identity].info.run_id})"

    def set_status(self, identity: str, status: str, end: int | None = None) -> None:
        """RUNNING, KILLED, FAILED, SCHEDULED or FINISHED; `end` in milliseconds since 1970."""
        run = self.runs[identity]
        if run.info.status == status and end in (None, run.info.end_time):
            return
        if status in ("RUNNING", "SCHEDULED"):
            self.client.update_run(run.info.run_id, status=status)
        else:
            self.client.set_terminated(run.info.run_id, status, end)

    # --- what a run holds ---------------------------------------------------------------------------------

    def parameters(self, identity: str, values: dict[str, object]) -> None:
        """Log nested parameters, by dotted names; the first ones stay, since MLflow cannot change any."""
        run = self.runs[identity]
        if not run.data.params:
            flat = pd.json_normalize(values).iloc[0].to_dict()
            self.client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in flat.items()])

    def last_step(self, run_id: str, key: str) -> int:
        """The last step of a metric that the store holds, or 0."""
        if (run_id, key) not in self._last:
            latest = self.client.get_run(run_id).data.to_proto().metrics  # a history may have millions of points
            self._last |= {(run_id, point.key): point.step for point in latest}
            self._last.setdefault((run_id, key), 0)
        return self._last[run_id, key]

    def points(
        self, run_id: str, steps: Iterable[tuple[int, int, dict[str, float]]], model_id: str | None = None
    ) -> None:
        """Log points, given as step, time in milliseconds since 1970 and values; those of a step come in one transaction.

        A model's points are also the run's.
        """
        batch: list[Metric] = []
        for step, time, values in steps:
            points = [Metric(key, value, time, step, model_id) for key, value in values.items()]
            if len(batch) + len(points) > BATCH:
                self._send(run_id, batch)
                batch = []
            batch += points
        if batch:
            self._send(run_id, batch)

    def _send(self, run_id: str, batch: list[Metric]) -> None:
        self.client.log_batch(run_id, metrics=batch)
        self._last |= {(run_id, point.key): point.step for point in batch}

    def data_set(self, run_id: str, name: str, sha256: str) -> None:
        """Log the data that a run was trained on, with its checksum."""
        source = CodeDatasetSource({"mlflow.source.name": "scripts/pack.py", "sha256": sha256})
        facts = MetaDataset(source, name=name, digest=sha256[:36]).to_dict()
        entity = Dataset(**{key: facts[key] for key in ("name", "digest", "source_type", "source")})
        if not self.client.get_run(run_id).inputs.dataset_inputs:
            self.client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])

    def artifacts(self, identity: str, files: list[Path]) -> None:
        """Log files, unless the run already holds that content."""
        run_id, tag = self.runs[identity].info.run_id, "artifacts"
        content = hashlib.sha256("".join(f"{file.name} {file_sha256(file)}" for file in files).encode()).hexdigest()[
            :10
        ]
        if self.client.get_run(run_id).data.tags.get(tag) != content:
            for file in files:
                self.client.log_artifact(run_id, str(file))
            self.client.set_tag(run_id, tag, content)

    def model(self, identity: str, name: str, net: nn.Module, given: ImageFacts, step: int) -> str:
        """Log a net as an MLflow model, a graph that needs only PyTorch, from images (N, C, H, W) to logits (N, K).

        Images are float32, in [0, 1] or normalised as they were in training, as `given`, the model's metadata, says.
        Returns the model's id.
        """
        run_id = self.runs[identity].info.run_id
        found = self.client.search_logged_models([self.experiment], f"source_run_id = '{run_id}'")
        model = found[0] if found else self.client.create_logged_model(self.experiment, name, run_id)
        if model.status != "READY":
            images = TensorSpec(np.dtype("float32"), (-1, *given.shape))
            logits = TensorSpec(np.dtype("float32"), (-1, len(given.classes)))
            facts = Model(
                artifact_path=model.artifact_location, model_uuid=model.model_id, model_id=model.model_id, run_id=run_id
            )
            with tempfile.TemporaryDirectory() as folder:
                mlflow.pytorch.save_model(
                    net.eval(),
                    f"{folder}/net",
                    mlflow_model=facts,
                    signature=ModelSignature(Schema([images]), Schema([logits])),
                    input_example=np.full((2, *given.shape), 0.5, np.float32),
                    metadata=given.model_dump(mode="json"),
                    pip_requirements=["mlflow", "torch"],
                    serialization_format="pt2",
                )
                self.client.log_model_artifacts(model.model_id, f"{folder}/net")
            self.client.finalize_logged_model(model.model_id, "READY")
        if not self.client.get_run(run_id).outputs.model_outputs:
            self.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
        return model.model_id


class LimitedClient:
    """A server's client, each of whose calls fails after a time, even if the server answers without end.

    MLflow's own limit is the time between two pieces of an answer. Only for the main thread, since only it gets signals. Not
    for a database, which a call that is cut off would leave locked.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        seconds = SECONDS_OF_FILES if "artifact" in name else SECONDS_OF_A_CALL

        def give_up(*args: object) -> None:
            raise TimeoutError(f"the store has not answered {name} within {seconds} s")

        def call(*args: object, **named: object) -> Any:
            before = signal.signal(signal.SIGALRM, give_up)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                return getattr(self._client, name)(*args, **named)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)

        return call


def _check(uri: str) -> None:
    """Raise if a store does not answer within SECONDS_TO_ANSWER; MLflow itself would retry for minutes."""
    if "?" in uri:
        raise ValueError("the address of the store has a '?', which MLflow takes for the end of its path. Use another")
    if uri.startswith("sqlite:///"):
        with closing(sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=SECONDS_TO_ANSWER)) as database:
            database.execute("PRAGMA schema_version").fetchone()
    elif uri.startswith("http"):
        until = monotonic() + SECONDS_TO_ANSWER
        given = get_default_host_creds(uri)  # certificates, from MLFLOW_TRACKING_INSECURE_TLS and the like
        options = {"timeout": SECONDS_TO_ANSWER, "verify": given.verify, "cert": given.client_cert_path}
        with requests.get(f"{uri.rstrip('/')}/health", stream=True, **options) as answer:
            if answer.status_code >= SERVER_ERROR:  # less is an answer, even a request for a login, which MLflow has
                answer.raise_for_status()
            for _ in answer.iter_content(1024):
                if monotonic() > until:
                    raise TimeoutError("the store's answer never ends")


@contextmanager
def _told_how_to_upgrade(uri: str) -> Iterator[None]:
    """A context that raises ValueError, with the command that helps, if an older MLflow made the store."""
    try:
        yield
    except MlflowException as error:
        if "out-of-date" not in str(error):
            raise
        raise ValueError(
            f"this store was made by an older MLflow. Copy it, since that MLflow cannot read it afterwards, and upgrade "
            f"it: mlflow db upgrade {uri}"
        ) from None


def _make_local(path: Path) -> None:
    """Make an empty local store. Its many tables appear at once: only some of them would stop every other process."""
    unfinished = temporary_beside(path)
    client = MlflowClient(f"sqlite:///{unfinished}")
    for experiment in client.search_experiments():  # MLflow's own, which would stay empty
        client.delete_experiment(experiment.experiment_id)
    unfinished.replace(path)
