"""What a reader needs to check the numbers of a finished run, small enough for the repository. Imports no torch.

Besides the run's own specification and manifest: the loss of each iteration, the test curve and, if there is one, the
validation curve, and the test logits in float16. The manifest has the checksum of the weights.
"""

import gzip
import io

import numpy as np
import pandas as pd

from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.runs.folder import ExportedFolder
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import Run

DIGITS = 4  # significant ones, of metrics


def export_run(run: Run, to: ExportedFolder) -> None:
    """Export a finished run; the same run gives the same bytes. Raises UserError if its files are damaged."""
    if damaged := run.folder.damaged_outputs():
        raise UserError(f"{damaged[0]}: does not match the run's manifest. Make it again: snakemake {damaged[0]}")
    write_atomically(to.specification, run.folder.specification.read_bytes())
    metrics = pd.read_csv(run.folder.metrics).drop(columns=["learning_rate", "gradient_norm"])
    text = metrics.to_csv(index=False, float_format=f"%.{DIGITS}g").encode()
    write_atomically(to.metrics, gzip.compress(text, mtime=0))
    if run.spec.stage == 2:
        logits, labels = load_predictions(run.folder.predictions)
        write_atomically(to.predictions, _compressed(logits, labels))
    write_atomically(to.manifest, run.folder.manifest.read_bytes())


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
