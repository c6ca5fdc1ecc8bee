"""Normalise pixels when a data set is packed: global contrast normalisation and ZCA whitening.

As pylearn2 made FitNets' CIFAR-10 (make_cifar10_gcn_whitened.py; global_contrast_normalize; ZCA with filter_bias). Works in
chunks, since a copy of CIFAR-10 in float64 takes 1.5 GB.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fspkd.config.data import GcnZca, Preprocess
from fspkd.data.packed import VALIDATION, PackedData
from fspkd.errors import UserError

CHUNK_BYTES = 2**26  # of images in float64
MOST_VALUES = 64 * 64 * 3  # of an image; their covariance takes 1.2 GB, and eigenvectors of more take hours


def preprocessed(data: PackedData, name: str, settings: Preprocess) -> PackedData:
    """Preprocess a data set of uint8 images: whiten it now, or only note what is to be done to each batch.

    Raises UserError for images too large to be whitened; `name` is the data set's, for the message.
    """
    known = replace(data, preprocess=settings, raw_sha256=data.sha256)
    return replace(known, images=_whitened(data, name, settings)) if settings.method == "gcn_zca" else known


def _whitened(data: PackedData, name: str, settings: GcnZca) -> dict[str, np.ndarray]:
    """The images of all splits, float32, whitened by a transform fitted on the training and validation images."""
    _, height, width, channels = data.images["train"].shape
    values = height * width * channels
    if values > MOST_VALUES:
        raise UserError(
            f"data set {name!r}: preprocess.method = 'gcn_zca': images of {width}x{height} pixels and {channels} channels have "
            f"{values} values, but at most {MOST_VALUES} can be whitened. Give the data set a smaller 'size', such as 32."
        )
    fitted_on = [data.images[split] for split in ("train", VALIDATION) if split in data.images]

    def chunks() -> Iterator[np.ndarray]:
        return (chunk for images in fitted_on for chunk in normalized_chunks(images, settings.scale))

    mean, matrix = fit_zca(chunks, settings.bias)
    whitened = {split: np.empty(images.shape, np.float32) for split, images in data.images.items()}
    for split, images in data.images.items():
        rows = whitened[split].reshape(len(images), values)
        done = 0
        for chunk in normalized_chunks(images, settings.scale):
            rows[done : done + len(chunk)] = (chunk - mean) @ matrix
            done += len(chunk)
    return whitened


def normalized_chunks(images_NHWC: np.ndarray, scale: float) -> Iterator[np.ndarray]:
    """uint8 images, some at a time, as rows (n, H*W*C) in float64: each with a mean of 0 and an L2 norm of `scale`.

    An image of one colour becomes zeros.
    """
    rows = images_NHWC.reshape(len(images_NHWC), -1)
    count = max(1, CHUNK_BYTES // (8 * rows.shape[1]))
    for first in range(0, len(rows), count):
        x = rows[first : first + count].astype(np.float64)
        x -= x.mean(1, keepdims=True)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        yield x * (scale / np.maximum(norm, 0.5))  # of integers, the norm is above 0.7 if they are not all equal


def fit_zca(chunks: Callable[[], Iterable[np.ndarray]], bias: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean m (D,) and the symmetric matrix W (D, D) that whiten rows x as (x - m) W.

    W is V diag(1 / sqrt(l)) V^T, with the eigenvectors V and eigenvalues l of the covariance (over N, not N - 1) plus `bias`
    times the identity. `chunks()` yields all rows, a chunk (n, D) at a time, and is called twice.
    """
    count = 0
    total: Any = 0.0  # an array from the first chunk on
    for chunk in chunks():
        count, total = count + len(chunk), total + chunk.sum(0)
    mean = total / count
    covariance = bias * np.eye(len(mean))
    for chunk in chunks():
        centred = chunk - mean
        covariance += centred.T @ centred / count
    values, vectors = np.linalg.eigh(covariance)
    return mean, (vectors / np.sqrt(values)) @ vectors.T
