"""What a reader needs to check the numbers of a finished run, small enough for the repository. Imports no torch.

Besides the run's own specification and manifest: the loss, the test curve and, if there is one, the validation curve, and
the test logits in float16; some 200 KB for 10,000 test images of ten classes, however long the run was. The manifest has the
checksum of the weights, which are exported only if asked for.
"""

import gzip
import io
import math

import numpy as np
import pandas as pd

from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.runs.folder import ExportedFolder
from fspkd.runs.metrics import load_metrics
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import Run

DIGITS = 4  # significant ones, of metrics
LOSSES = 10_000  # of a run, at most


def export_run(run: Run, to: ExportedFolder, with_weights: bool = False) -> None:
    """Export a finished run; the same run gives the same bytes. Raises UserError if its files are damaged."""
    if damaged := run.folder.damaged_outputs():
        raise UserError(f"{damaged[0]}: does not match the run's manifest. Make it again: snakemake {damaged[0]}")
    write_atomically(to.specification, run.folder.specification.read_bytes())
    metrics = _thinned(load_metrics(run.folder).drop(columns=["learning_rate", "gradient_norm"]))
    text = metrics.to_csv(float_format=f"%.{DIGITS}g").encode()
    write_atomically(to.metrics, gzip.compress(text, mtime=0))
    if run.spec.stage == 2:
        logits, labels = load_predictions(run.folder.predictions)
        write_atomically(to.predictions, _compressed(logits, labels))
    if with_weights or to.weights.exists():  # those exported before must not outlive their net
        write_atomically(to.weights, run.folder.weights.read_bytes())
    write_atomically(to.manifest, run.folder.manifest.read_bytes())


def _thinned(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics at every few iterations, at all that were tested and at the last, with the mean loss since the one before."""
    every = math.ceil(len(metrics) / LOSSES)
    is_tested = metrics.drop(columns="loss").notna().any(axis="columns")
    kept = metrics[(metrics.index % every == 0) | is_tested | (metrics.index == len(metrics))]
    means = metrics["loss"].groupby(kept.index.searchsorted(metrics.index)).mean()
    return kept.assign(loss=means.to_numpy())


def _compressed(logits_NK: np.ndarray, labels_N: np.ndarray) -> bytes:
    """Logits minus their image's highest, in float16, which is finest near 0; in float32 if a prediction would change."""
    relative = np.maximum(logits_NK - logits_NK.max(1, keepdims=True), np.finfo(np.float16).min)
    half = relative.astype(np.float16)
    relative = half if np.array_equal(half.argmax(1), logits_NK.argmax(1)) else relative
    content = io.BytesIO()
    np.savez_compressed(
        content, logits=relative, labels=labels_N.astype(np.uint8 if logits_NK.shape[1] < 256 else np.int64)
    )
    return content.getvalue()
