"""Training batches as a function of the iteration alone."""

import numpy as np
import torch
from torch import Tensor

from fspkd.config.data import Augment
from fspkd.data.packed import VALIDATION, PackedData
from fspkd.draws import Draws
from fspkd.engine.augment import crop_and_flip, pad_images
from fspkd.engine.contrast import ContrastNormalization
from fspkd.errors import UserError
from fspkd.runs.spec import RunSpec


class Images:
    """A packed data set on a device: the training images, padded, and the others, centre-cropped.

    `validation` and `validation_labels` are None if no images are for validation. `size` is the height and width of
    the nets' inputs; `margins` are the largest offsets of a crop of that size. Raises UserError if the images are
    smaller than their crops.
    """

    def __init__(self, data: PackedData, augment: Augment, device: torch.device) -> None:
        self.device = device
        self.sha256 = data.sha256
        self.class_names = data.classes
        self.classes = len(data.classes)
        self.train = pad_images(torch.from_numpy(data.images["train"]), augment.pad).to(device)
        labels = {split: torch.from_numpy(of_split).to(device) for split, of_split in data.labels.items()}
        self.train_labels, self.test_labels = labels["train"], labels["test"]
        self.validation_labels = labels.get(VALIDATION)
        self.count, *whole, self.channels = data.images["train"].shape
        self.size = (augment.crop, augment.crop) if augment.crop else tuple(whole)
        if min(whole) < min(self.size):
            raise UserError(
                f"{data.source}: augment.crop = {augment.crop}: the images have {whole[1]}x{whole[0]} pixels. Give the data "
                f"set a 'size' of {augment.crop} or more."
            )
        self.margins = tuple(have - wanted for have, wanted in zip(self.train.shape[1:3], self.size, strict=True))
        top, left = ((have - wanted) // 2 for have, wanted in zip(whole, self.size, strict=True))
        height, width = self.size
        middle = {
            split: torch.from_numpy(images)[:, top : top + height, left : left + width].to(device)
            for split, images in data.images.items()
            if split != "train"
        }
        self.test, self.validation = middle["test"], middle.get(VALIDATION)
        by_batch = data.preprocess is not None and data.preprocess.method == "gcn_lcn"
        self.normalize = ContrastNormalization(device) if by_batch else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the nets' inputs: channels, height, width."""
        return (self.channels, *self.size)

    def to_input(self, images_NHWC: Tensor) -> Tensor:
        """Images (N, H, W, C) as nets read them: float32, (N, C, H, W), channels last in memory.

        uint8 images are scaled to [0, 1], or contrast-normalised if the data set asks for that; whitened ones stay.
        """
        images = images_NHWC.permute(0, 3, 1, 2)
        if self.normalize:
            return self.normalize(images)
        return images if images.is_floating_point() else images / 255


def batch_draws(spec: RunSpec) -> Draws:
    """The random numbers of a run's batches: the same for the first stages of all nets of a row that share their teacher."""
    shared = spec.stage == 1 and spec.batches != "own"
    return spec.model_copy(update={"number": None}).draws if shared else spec.draws


class Batches:
    """The batches of a run.

    Images come in the order of one random permutation after another, with no break between them: every batch is
    full, and every image is seen equally often. Random numbers are drawn on the host, one row per image, for as many
    iterations at once as the caller likes; the device makes the images from them.
    """

    def __init__(self, images: Images, spec: RunSpec) -> None:
        self.images, self.spec, self.draws = images, spec, batch_draws(spec)
        self.epochs: dict[int, np.ndarray] = {}

    def draw(self, first: int, count: int) -> Tensor:
        """The batches of iterations first, first + 1, ... (from 0): (count, B, 4) int64: image, top, left, flip."""
        size, augment = self.spec.training.batch_size, self.spec.augment
        drawn = np.empty((count, size, 4), np.int64)
        drawn[..., 0] = self._images_at(np.arange(first * size, (first + count) * size)).reshape(count, size)
        for row, iteration in zip(drawn, range(first, first + count), strict=True):
            draw = self.draws.generator("augment", iteration)
            row[:, 1:3] = draw.integers(0, self.images.margins, (size, 2), endpoint=True)
            row[:, 3] = draw.random(size) < (0.5 if augment.flip else 0.0)
        return torch.from_numpy(drawn)

    def make(self, drawn_KB4: Tensor) -> tuple[Tensor, Tensor]:
        """The images (K, B, H, W, C) and labels (K, B) of drawn batches, which lie on the images' device."""
        index, top, left, flip = drawn_KB4.flatten(0, 1).unbind(1)
        images = crop_and_flip(self.images.train, index, torch.stack([top, left], 1), flip.bool(), self.images.size)
        return images.unflatten(0, drawn_KB4.shape[:2]), self.images.train_labels[drawn_KB4[..., 0]]

    def _images_at(self, positions: np.ndarray) -> np.ndarray:
        count = self.images.count
        needed = range(positions[0] // count, positions[-1] // count + 1)
        self.epochs = {
            e: self.epochs[e] if e in self.epochs else self.draws.generator("order", e).permutation(count)
            for e in needed
        }
        return np.concatenate([self.epochs[e] for e in needed])[positions - needed[0] * count]
