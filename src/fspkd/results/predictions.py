"""What nets predict for the test images, alone and together."""

import numpy as np

from fspkd.errors import UserError
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import Run


def ensemble(probabilities: list[np.ndarray]) -> np.ndarray:
    """The mean of the nets' softmax outputs: a list of (N, K) to (N, K)."""
    return np.mean(np.stack(probabilities).astype(np.float64), axis=0)


def correct(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """For each image, 1 where the most probable class is the label, and 0 elsewhere: (N,) float64."""
    return (probabilities_NK.argmax(1) == labels_N).astype(float)


def correct_by_image(nets: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each net is right about each test image, (nets, images), and whether their ensemble is, (images,): 0 or 1.

    Raises UserError where the nets were tested on different images, or their predictions cannot be read.
    """
    probabilities, labels = zip(*(load_predictions(run.folder.predictions) for run in nets), strict=True)
    if any(not np.array_equal(labels[0], other) for other in labels):
        raise UserError(
            f"{nets[0].folder} and the other nets of its row were tested on different images. Train them again: "
            f"delete their folders."
        )
    single = np.stack([correct(p, labels[0]) for p in probabilities])
    return single, correct(ensemble(list(probabilities)), labels[0])
