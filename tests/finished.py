"""Finished runs that were never trained."""

import pandas as pd
import torch

from fspkd.files import file_sha256
from fspkd.runs.folder import Attempt, ImageFacts, Manifest
from fspkd.runs.predictions import save_predictions
from fspkd.runs.spec import Run


def finish(run: Run, code: dict[str, str] | None = None) -> None:
    """Write a manifest like that of a finished run."""
    attempt = Attempt(
        from_iteration=0,
        git_commit=None,
        code_sha256=code or {"engine": "0", "method": "0"},
        versions={},
        host="here",
        device="cpu",
        precision="float32",
        threads=1,
        processor="a processor",
        instructions="AVX2",
        onednn_instructions=None,
    )
    manifest = Manifest(
        run=run.id,
        iterations=run.spec.iterations,
        test_accuracy=None,
        weights_sha256="0",
        finished="2020-01-01T00:00:00+00:00",
        seconds=1,
        images=ImageFacts(shape=(1, 8, 8), classes=("a", "b", "c")),
        inputs_sha256={},
        outputs_sha256={},
        attempts=(attempt,),
    )
    run.folder.write_manifest(manifest)
    vouch(run)


def vouch(run: Run) -> None:
    """Give the manifest of a finished run the checksums of the outputs that exist."""
    checksums = {file.name: file_sha256(file) for file in run.folder.outputs(run.spec.stage) if file.exists()}
    run.folder.write_manifest(run.folder.read_manifest().model_copy(update={"outputs_sha256": checksums}))


def predict(run: Run, logits: torch.Tensor, labels: torch.Tensor) -> None:
    """Write the test predictions of a finished run."""
    save_predictions(run.folder.predictions, logits.numpy(), labels.numpy())
    vouch(run)


def measure(run: Run, frame: pd.DataFrame) -> None:
    """Write the metrics of a finished run."""
    frame.to_csv(run.folder.metrics, index=False)
    vouch(run)
