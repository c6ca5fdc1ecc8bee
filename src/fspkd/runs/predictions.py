"""The test predictions of a finished net on disk."""

import io
from pathlib import Path

import numpy as np

from fspkd.errors import UserError, is_of_the_machine
from fspkd.files import write_atomically


def save_predictions(path: Path, logits_NK: np.ndarray, labels_N: np.ndarray) -> None:
    """Write the logits (N, K) and the labels (N,) of the test images as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, logits=logits_NK, labels=labels_N)
    write_atomically(path, buffer.getvalue())


def load_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) and labels (N,); raises UserError for a damaged file."""
    try:
        with np.load(path) as file:
            return file["logits"], file["labels"]
    except Exception as error:  # zipfile, numpy and zlib each raise their own
        # A lack of memory is damage too, since a damaged file may claim any size.
        if isinstance(error, OSError) and is_of_the_machine(error):
            raise
        raise UserError(
            f"{path}: these predictions cannot be read ({error}). Delete the file and make it again: snakemake {path}"
        ) from None
