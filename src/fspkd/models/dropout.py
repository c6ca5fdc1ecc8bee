"""Dropout whose random numbers are a function of (seed, net's name, layer, iteration) and of nothing else, on any device."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from fspkd.draws import BITS, Draws, random_bits


class Dropout(nn.Module):
    """Each element of x (B, C, ...) is kept with probability `keep`, to 2^-16, and multiplied by `scale`; the others are 0.

    In evaluation mode too: a net applies it only while `self.training`. Its `randomise` must call this one's, before the
    first forward pass.
    """

    def __init__(self, keep: float, scale: float) -> None:
        super().__init__()
        self.highest = math.ceil(keep * 2**BITS) - 2 ** (BITS - 1) - 1  # of the int16 that keep an element
        self.scale = scale

    def randomise(self, draws: Draws, purpose: str, iteration: Callable[[], Tensor]) -> None:
        """Use the random numbers of that purpose at the iteration that `iteration` returns, (1,) int64."""
        self.key = draws.key(purpose)
        self.iteration = iteration

    def forward(self, x: Tensor) -> Tensor:
        bits = random_bits(self.key, self.iteration(), x.numel())
        # Numbered channels last, whatever the memory format of x, which is most often just that.
        kept = (bits <= self.highest).view(x.movedim(1, -1).shape).movedim(-1, 1)
        return x * kept * self.scale
