"""Test predictions, and what is computed from them: accuracy, average, ensemble."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.engine.augment import to_input
from fspkd.errors import UserError
from fspkd.files import write_atomically

PIXELS = {"cuda": 2**21, "cpu": 2**18}  # of a batch of test images: 2048 and 256 of CIFAR's


@torch.no_grad()
def predict(net: nn.Module, images_NHWC: Tensor) -> Tensor:
    """Logits (N, K) of a net in evaluation mode for uint8 images; leaves the net in the mode it was in."""
    training = net.training
    net.eval()
    _, height, width, _ = images_NHWC.shape
    batches = images_NHWC.split(max(1, PIXELS[images_NHWC.device.type] // (height * width)))
    logits = torch.cat([net(to_input(batch)) for batch in batches])
    net.train(training)
    return logits


def accuracy_and_loss(logits_NK: Tensor, labels_N: Tensor) -> tuple[float, float]:
    """Accuracy in percent, and the mean cross-entropy."""
    correct = (logits_NK.argmax(1) == labels_N).float().mean().item()
    return 100 * correct, F.cross_entropy(logits_NK, labels_N).item()


def save_predictions(path: Path, logits_NK: Tensor, labels_N: Tensor) -> None:
    """Write the softmax outputs (N, K) float32 and the labels (N,) of the test images as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, probabilities=logits_NK.softmax(1).cpu().numpy(), labels=labels_N.cpu().numpy())
    write_atomically(path, buffer.getvalue())


def load_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, K) and labels (N,); raises UserError for a damaged file."""
    try:
        with np.load(path) as file:
            return file["probabilities"], file["labels"]
    except Exception as error:  # zipfile, numpy and zlib each raise their own
        raise UserError(
            f"{path}: these predictions cannot be read ({error}). Delete the file and make it again: snakemake {path}"
        ) from None


def ensemble(probabilities: list[np.ndarray]) -> np.ndarray:
    """The mean of the nets' softmax outputs: a list of (N, K) to (N, K)."""
    return np.mean(np.stack(probabilities).astype(np.float64), axis=0)


def correct(probabilities_NK: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """For each image, 1 where the most probable class is the label, and 0 elsewhere: (N,) float64."""
    return (probabilities_NK.argmax(1) == labels_N).astype(float)
