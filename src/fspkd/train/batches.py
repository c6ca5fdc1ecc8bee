"""Training batches as a function of the iteration alone."""

import numpy as np
import torch
from torch import Tensor

from fspkd.augment import crop_and_flip, pad_images, to_input
from fspkd.data import PackedData
from fspkd.plan import RunSpec
from fspkd.streams import generator


class Batches:
    """The training images on a device; call with an iteration (from 0) for its images (B, C, H, W) and labels (B,).

    Images come in the order of one random permutation after another, with no break between them: every batch is
    full, and every image is seen equally often.
    """

    def __init__(self, data: PackedData, spec: RunSpec, device: torch.device) -> None:
        self.spec = spec
        self.count, *size, _ = data.images["train"].shape
        self.size = tuple(size)
        self.images = pad_images(torch.from_numpy(data.images["train"]), spec.augment.pad).to(device)
        self.labels = torch.from_numpy(data.labels["train"]).to(device)
        self.device = device
        self.epochs: dict[int, np.ndarray] = {}

    def __call__(self, iteration: int) -> tuple[Tensor, Tensor]:
        batch, augment = self.spec.training.batch_size, self.spec.augment
        positions = np.arange(iteration * batch, (iteration + 1) * batch)
        index = torch.from_numpy(self._images_at(positions)).to(self.device)
        draw = generator(self.spec.seed, self.spec.stream, "augment", iteration)
        offsets = torch.from_numpy(draw.integers(0, 2 * augment.pad, (batch, 2), endpoint=True)).to(self.device)
        flips = torch.from_numpy(draw.random(batch) < (0.5 if augment.flip else 0.0)).to(self.device)
        return to_input(crop_and_flip(self.images, index, offsets, flips, self.size)), self.labels[index]

    def _images_at(self, positions: np.ndarray) -> np.ndarray:
        needed = range(positions[0] // self.count, positions[-1] // self.count + 1)
        self.epochs = {
            e: self.epochs[e]
            if e in self.epochs
            else generator(self.spec.seed, self.spec.stream, "order", e).permutation(self.count)
            for e in needed
        }
        return np.concatenate([self.epochs[e] for e in needed])[positions - needed[0] * self.count]
