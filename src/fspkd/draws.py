"""Random numbers as a function of (seed, name, purpose, step) and of nothing else.

Step t needs no step before it: a resumed run draws what an uninterrupted one draws, on any device.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from fspkd.lazy import torch


@dataclass(frozen=True)
class Draws:
    """The random numbers of one run: `name` keeps them apart from those of others under the same seed."""

    seed: int
    name: str

    def generator(self, purpose: str, step: int = 0) -> np.random.Generator:
        """A NumPy generator (Philox, counter-based) for one purpose at one step."""
        key = hashlib.sha256(f"{self.seed}/{self.name}/{purpose}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"), counter=step << 128))

    def torch_generator(self, purpose: str) -> "torch.Generator":
        """A CPU torch generator, for initialisations: the same numbers whatever device the net trains on."""
        return torch.Generator().manual_seed(int(self.generator(purpose).integers(2**63)))
