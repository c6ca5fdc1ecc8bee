"""Random numbers as a function of (seed, name, purpose, step) and nothing else.

Step t needs no earlier step: a resumed run draws the same as an uninterrupted one, on any device.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from fspkd.lazy import torch

GAMMA, FACTORS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # splitmix64's constants
BITS = 16  # per number of random_bits: four of them share a hash


@dataclass(frozen=True)
class Draws:
    """The random numbers of one run; `name` distinguishes runs with the same seed."""

    seed: int
    name: str

    def generator(self, purpose: str, step: int = 0) -> np.random.Generator:
        """A NumPy generator (Philox, counter-based) for one purpose at one step."""
        key = hashlib.sha256(f"{self.seed}/{self.name}/{purpose}".encode()).digest()[:16]
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"), counter=step << 128))

    def torch_generator(self, purpose: str) -> "torch.Generator":
        """A CPU torch generator, for initialisations: the same numbers whatever device the net trains on."""
        return torch.Generator().manual_seed(int(self.generator(purpose).integers(2**63)))

    def key(self, purpose: str) -> int:
        """A key for random_bits, for one purpose."""
        return int(self.generator(purpose).integers(-(2**63), 2**63))


def _signed(number: int) -> int:
    """The int64 with the bits of a uint64: torch multiplies only int64, the same modulo 2^64."""
    return number - 2**64 if number >= 2**63 else number


def _shifted(x: "torch.Tensor", bits: int) -> "torch.Tensor":
    """A right shift that fills with zeros; torch's own shift of int64 fills with the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mixed(x: "torch.Tensor") -> "torch.Tensor":
    """The splitmix64 output [Steele, Lea and Flood, OOPSLA 2014] at states x, int64 read as uint64."""
    for shift, factor in FACTORS:
        x = (x ^ _shifted(x, shift)) * _signed(factor)
    return x ^ _shifted(x, 31)


def random_bits(key: int, iteration: "torch.Tensor", count: int) -> "torch.Tensor":
    """`count` independent, uniformly distributed int16, a function of a 64-bit key and an iteration, (1,) int64.

    An iteration's numbers come from one splitmix64, whose start state is the output for that iteration of another, which
    starts at the key. Integer arithmetic on the iteration's device: the same on every device, and capturable.
    """
    start = mixed(key + iteration * _signed(GAMMA))
    words = torch.arange(-(-count // (64 // BITS)), device=iteration.device)
    return mixed(start + words * _signed(GAMMA)).view(torch.int16)[:count]
