"""Normalised pixels against slow references; nets are trained on them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import Project, images_of

from fspkd.config.data import Augment, GcnLcn, GcnZca
from fspkd.data import preprocess
from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.data.preprocess import preprocessed
from fspkd.engine import step
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.train.nets import finished_net

ZCA = GcnZca(method="gcn_zca", scale=5, bias=0.1)


def blobs(count: int, size: tuple[int, int, int], seed: int) -> np.ndarray:
    """Images (N, H, W, C) uint8 whose neighbouring pixels are similar, as in photographs; the first has one colour."""
    draw = np.random.default_rng(seed)
    pixels = np.cumsum(draw.normal(0, 20, (count, *size)), axis=2) + draw.normal(128, 30, (count, 1, 1, 1))
    pixels[0] = 77
    return pixels.clip(0, 255).astype(np.uint8)


def packed(size: tuple[int, int, int] = (4, 5, 3), **counts: int) -> PackedData:
    counts = {"train": 200, "test": 30, **counts}
    images = {split: blobs(count, size, seed) for seed, (split, count) in enumerate(counts.items())}
    return PackedData(images, {split: np.arange(n) % 2 for split, n in counts.items()}, ["a", "b"], "blobs")


def gcn(images: np.ndarray, scale: float) -> np.ndarray:
    """Global contrast normalisation, image by image: (N, H*W*C) float64."""
    rows = []
    for image in images:
        values = [float(v) for v in image.ravel()]
        mean = math.fsum(values) / len(values)
        norm = math.sqrt(math.fsum((v - mean) ** 2 for v in values))
        rows.append([scale * (v - mean) / norm if norm else 0.0 for v in values])
    return np.array(rows)


def rows_of(data: PackedData, *splits: str) -> np.ndarray:
    return np.concatenate([data.images[s].reshape(len(data.images[s]), -1) for s in splits]).astype(np.float64)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "CHUNK_BYTES", 8 * 60 * 7)  # 7 images of 4x5x3: 200 leave 4 for the last chunk


@pytest.mark.parametrize("count", [200, 25])  # more images than values, and fewer
def test_whitening_is_the_inverse_root_of_the_regularised_covariance(count: int) -> None:
    raw = packed(train=count)
    data = preprocessed(raw, "blobs", ZCA)
    x = gcn(raw.images["train"], 5)
    centre = x.mean(0)
    by_root = np.linalg.inv(scipy.linalg.sqrtm(np.cov(x.T, bias=True) + 0.1 * np.eye(60)).real)
    _, singular, vectors = np.linalg.svd(x - centre, full_matrices=False)
    change = 1 / np.sqrt(singular**2 / count + 0.1) - 1 / math.sqrt(0.1)
    by_svd = np.eye(60) / math.sqrt(0.1) + (vectors.T * change) @ vectors
    mean, matrix = preprocess.fit_zca(lambda: iter([x[:9], x[9:]]), 0.1)
    np.testing.assert_allclose(mean, centre, atol=1e-12)
    for expected in (by_root, by_svd):
        np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-9)
        for split in ("train", "test"):
            assert data.images[split].dtype == np.float32
            assert data.images[split].shape == raw.images[split].shape
            whitened = (gcn(raw.images[split], 5) - centre) @ expected
            np.testing.assert_allclose(rows_of(data, split), whitened, atol=1e-5)


def test_covariance_of_whitened_images_is_what_the_bias_leaves_of_the_identity() -> None:
    raw = packed()
    data = preprocessed(raw, "blobs", ZCA)
    values, vectors = np.linalg.eigh(np.cov(gcn(raw.images["train"], 5).T, bias=True))
    expected = (vectors * (values / (values + 0.1))) @ vectors.T
    np.testing.assert_allclose(np.cov(rows_of(data, "train").T, bias=True), expected, atol=1e-5)
    assert 0.05 < np.trace(expected) / 60 < 0.95  # the bias decides something, but not everything


def test_whitening_is_fitted_on_images_for_training_and_validation_and_on_no_others() -> None:
    raw = packed(validation=50)
    both = {"train": np.concatenate([raw.images["train"], raw.images["validation"]]), "test": raw.images["test"]}
    together = PackedData(both, {"train": np.zeros(250), "test": raw.labels["test"]}, raw.classes, raw.source)
    ours = preprocessed(raw, "blobs", ZCA)
    expected = rows_of(preprocessed(together, "blobs", ZCA), "train")
    np.testing.assert_allclose(rows_of(ours, "train", "validation"), expected, atol=1e-5)
    other_test = replace(raw, images={**raw.images, "test": raw.images["test"] ^ 255})
    np.testing.assert_array_equal(preprocessed(other_test, "blobs", ZCA).images["train"], ours.images["train"])


def test_whitened_data_are_known_by_what_they_are_made_of_and_checked_bit_by_bit(tmp_path: Path) -> None:
    raw = packed()
    data = preprocessed(raw, "blobs", ZCA)
    elsewhere = replace(data, images={s: np.nextafter(i, np.float32(9)) for s, i in data.images.items()})
    assert elsewhere.sha256 == data.sha256  # other last bits, as from another machine
    other_image = replace(raw, images={**raw.images, "test": raw.images["test"] ^ 1})
    others = [
        raw,
        preprocessed(raw, "blobs", GcnZca(method="gcn_zca", scale=5, bias=0.2)),
        preprocessed(raw, "blobs", GcnLcn(method="gcn_lcn")),
        preprocessed(other_image, "blobs", ZCA),
    ]
    assert len({data.sha256, *(other.sha256 for other in others)}) == 5
    file = tmp_path / "white.npz"
    save_packed(data, file)
    loaded = load_packed(file)
    assert (loaded.sha256, loaded.preprocess) == (data.sha256, ZCA)
    np.testing.assert_array_equal(loaded.images["train"], data.images["train"])
    with np.load(file) as arrays:
        np.savez(file, **{**arrays, "test_images": elsewhere.images["test"]})
    with pytest.raises(UserError, match=r"white.npz: this packed data set is damaged"):
        load_packed(file)


def test_images_too_large_to_whiten_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"data set 'birds': preprocess.method = 'gcn_zca': images of 70x60 pixels and 3"
    ):
        preprocessed(packed((60, 70, 3), train=2, test=2), "birds", ZCA)


def local_contrast(images: np.ndarray) -> np.ndarray:
    """Normalise images (N, H, W, C) of unit norm, float64, pixel by pixel."""
    count, height, width, channels = images.shape
    distances = range(-3, 4)
    weights = {(i, j): math.exp(-(i * i + j * j) / 8) for i in distances for j in distances}
    total = sum(weights.values())
    result = np.zeros_like(images)
    for n in range(count):
        for c in range(channels):
            mean, square = np.zeros((height, width)), np.zeros((height, width))
            for y in range(height):
                for x in range(width):
                    for (i, j), weight in weights.items():
                        if 0 <= y + i < height and 0 <= x + j < width:
                            value = images[n, y + i, x + j, c]
                            mean[y, x] += weight / total * value
                            square[y, x] += weight / total * value**2
            root = np.sqrt(square)
            result[n, :, :, c] = (images[n, :, :, c] - mean) / np.maximum(np.maximum(root, root.mean()), 1e-4)
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_local_contrast_normalisation_equals_plain_loops(channels: int) -> None:
    raw = packed((9, 11, channels), train=4, test=4, validation=4)
    images = Images(preprocessed(raw, "blobs", GcnLcn(method="gcn_lcn")), Augment(), torch.device("cpu"))
    for split in ("train", "test", "validation"):
        expected = local_contrast(gcn(raw.images[split], 1).reshape(raw.images[split].shape))
        given = getattr(images, split)
        assert given.dtype == torch.uint8
        x = images.to_input(given)
        assert x.is_contiguous(memory_format=torch.channels_last)
        np.testing.assert_allclose(x.permute(0, 2, 3, 1).numpy(), expected, atol=2e-5)
        assert (x[0] == 0).all()  # one colour has no contrast


@pytest.mark.parametrize(
    "method",
    [{"method": "gcn_zca", "scale": 55}, {"method": "gcn_lcn"}],
    ids=lambda settings: settings["method"],
)
def test_nets_are_trained_and_tested_on_normalised_images(
    project: Project, monkeypatch: pytest.MonkeyPatch, method: dict
) -> None:
    project.set("data.images.preprocess", method)
    project.set("data.images.validation", 100)
    project.pack()
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    images = images_of(run)
    assert run.folder.read_manifest().images.preprocess == method["method"]
    net = finished_net(run, (1, 8, 8), 10).eval()
    with torch.no_grad(), np.load(run.folder.predictions) as file:
        expected = net(images.to_input(images.test))
        torch.testing.assert_close(torch.from_numpy(file["logits"]), expected, rtol=1e-4, atol=1e-4)
    assert (len(images.train), len(images.validation), len(images.validation_labels)) == (1247, 100, 100)
    # Blocks of two iterations, limited by bytes, give the same net as blocks of one.
    before = run.folder.read_manifest().weights_sha256
    monkeypatch.setitem(step.BLOCK, "cpu", 500)
    batch_bytes = 32 * 8 * 8 * images.train.element_size()
    monkeypatch.setattr(step, "BLOCK_BYTES", 2 * batch_bytes)
    blocks = []
    load = step.Step.load
    monkeypatch.setattr(step.Step, "load", lambda self: blocks.append(load(self)) or blocks[-1])
    run.folder.manifest.unlink()
    run.folder.checkpoint.unlink()
    project.train("teacher/1")
    assert run.folder.read_manifest().weights_sha256 == before
    assert max(blocks) == 2
