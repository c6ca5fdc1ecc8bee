"""What nets predict for the test images, alone and together."""

import numpy as np
from scipy.special import softmax

from fspkd.errors import UserError
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import Run

LEARNED = 2  # times the accuracy of guessing


def ensemble(logits: list[np.ndarray]) -> np.ndarray:
    """The mean of the nets' softmax outputs: a list of logits (N, K) to (N, K) float64."""
    return np.mean([softmax(net.astype(np.float64), axis=1) for net in logits], axis=0)


def correct(scores_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """For each image, 1 where the class with the highest score is the label, and 0 elsewhere: (N,) float64."""
    return (scores_NK.argmax(1) == labels_N).astype(float)


def correct_by_image(nets: list[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each net is right about each test image, (nets, images), and whether their ensemble is, (images,): 0 or 1.

    Raises UserError if the nets were tested on different images, or their predictions are missing or altered.
    """
    logits, labels = zip(*(load_predictions(run.folder.vouched(run.folder.predictions)) for run in nets), strict=True)
    if any(not np.array_equal(labels[0], other) for other in labels):
        raise UserError(
            f"{nets[0].folder} and the other nets of its row were tested on different images. Delete their "
            f"folders and train them again."
        )
    single = np.stack([correct(net, labels[0]) for net in logits])
    return single, correct(ensemble(list(logits)), labels[0])


def needed_to_learn(net: Run) -> float:
    """The test accuracy, in percent, below which a finished net has failed to learn: twice that of guessing."""
    return LEARNED * 100 / len(net.folder.read_manifest().images.classes)
