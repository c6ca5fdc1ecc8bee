"""Dropout whose random numbers are a function of (seed, net's name, layer, iteration) and of nothing else, on any device."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fspkd.draws import Draws

GAMMA, FACTORS = 0x9E3779B97F4A7C15, ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # splitmix64's constants
BITS = 16  # of an element: four of them share a hash


def _signed(number: int) -> int:
    """The int64 with the bits of that uint64: torch multiplies those only, modulo 2^64 all the same."""
    return number - 2**64 if number >= 2**63 else number


def _shifted(x: Tensor, bits: int) -> Tensor:
    """A right shift that fills with zeros, where torch's own of int64 fills with the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def mixed(x: Tensor) -> Tensor:
    """The output of splitmix64 [Steele, Lea and Flood, OOPSLA 2014] at states x, int64 as uint64."""
    for shift, factor in FACTORS:
        x = (x ^ _shifted(x, shift)) * _signed(factor)
    return x ^ _shifted(x, 31)


def random_bits(key: int, iteration: Tensor, count: int) -> Tensor:
    """`count` independent, uniformly distributed int16, a function of a 64-bit key and an iteration, (1,) int64.

    The numbers of an iteration are those of a splitmix64 that starts at a state which another one, that starts at the key,
    gives for the iteration. Integer arithmetic on the iteration's device: the same on each, and it can be captured.
    """
    start = mixed(key + iteration * _signed(GAMMA))
    words = torch.arange(-(-count // (64 // BITS)), device=iteration.device)
    return mixed(start + words * _signed(GAMMA)).view(torch.int16)[:count]


class Dropout(nn.Module):
    """Each element of x (B, C, ...) is kept with probability `keep`, to 2^-16, and multiplied by `scale`; the others are 0.

    `randomise` must have been called before it is computed.
    """

    def __init__(self, keep: float, scale: float) -> None:
        super().__init__()
        self.highest = math.ceil(keep * 2**BITS) - 2 ** (BITS - 1) - 1  # of the int16 that keep an element
        self.scale = scale

    def randomise(self, draws: Draws, purpose: str, iteration: Callable[[], Tensor]) -> None:
        """Take the random numbers of that purpose at the iteration that `iteration` gives, (1,) int64."""
        self.key = int(draws.generator(purpose).integers(-(2**63), 2**63))
        self.iteration = iteration

    def forward(self, x: Tensor) -> Tensor:
        bits = random_bits(self.key, self.iteration(), x.numel())
        # Numbered with the channels last, whatever x is in memory: most often it is just so.
        kept = (bits <= self.highest).view(x.movedim(1, -1).shape).movedim(-1, 1)
        return x * kept * self.scale
