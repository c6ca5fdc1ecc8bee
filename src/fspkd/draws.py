"""Random numbers as a function of (seed, stream, purpose, step) and of nothing else.

Step t needs no step before it: a resumed run draws what an uninterrupted one draws, on any device.
"""

import hashlib

import numpy as np

from fspkd.lazy import torch


def generator(seed: int, stream: str, purpose: str, step: int = 0) -> np.random.Generator:
    """A NumPy generator (Philox, counter-based) for one purpose at one step of one run."""
    key = hashlib.sha256(f"{seed}/{stream}/{purpose}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"), counter=step << 128))


def torch_generator(seed: int, stream: str, purpose: str) -> "torch.Generator":
    """A CPU torch generator, for initialisations: the same numbers whatever device the net trains on."""
    number = int(generator(seed, stream, purpose).integers(2**63))
    return torch.Generator().manual_seed(number)
