"""Maxout networks [Goodfellow et al., ICML 2013], such as FitNets [Romero et al., ICLR 2015] and their teachers."""

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fspkd.networks.network import Network
from fspkd.settings import NotEmptyTuple, PositiveInt, PositiveReal, Real, Settings

Probability = Annotated[Real, Field(gt=0, le=1)]


class MaxoutLayer(Settings):
    """A layer of maxout units: convolutional, optionally max-pooled, or fully connected."""

    conv: PositiveInt | None = None
    """the channels of a convolutional layer"""
    full: PositiveInt | None = None
    """the units of a fully connected layer"""
    kernel: PositiveInt | None = None
    """the height and width of a convolution's filters; `conv` needs it"""
    pad: Annotated[int, Field(ge=0)] = 0
    """zeros that a convolution adds on each side"""
    pool: PositiveInt | None = None
    """the height and width of the max-pooling windows; the last may extend beyond the edge"""
    stride: PositiveInt | None = None
    """the step from one window to the next, at most `pool`, the default"""
    pieces: PositiveInt = 2
    """linear functions whose maximum is a unit's output"""
    limit: PositiveReal | None = None
    """the largest L2 norm of each filter, or each piece's row of weights; longer ones are scaled to it after an update"""
    rate: PositiveReal = 1.0
    """the multiplier of the learning rate of its weights and biases"""

    @model_validator(mode="after")
    def _one_kind(self) -> "MaxoutLayer":
        if (self.conv is None) == (self.full is None):
            raise ValueError(
                f"conv = {self.conv}, full = {self.full}: exactly one of the two must be given. Remove or add one"
            )
        keys = {"kernel": self.kernel, "pad": self.pad, "pool": self.pool, "stride": self.stride}
        if self.full and (given := [f"{key} = {value}" for key, value in keys.items() if value]):
            raise ValueError(
                f"{', '.join(given)}: not allowed in a layer with full = {self.full}. Remove it, or make the layer a conv"
            )
        if self.conv and not self.kernel:
            raise ValueError(f"conv = {self.conv}: kernel is missing. Give the size of its filters")
        if self.stride and self.stride > (self.pool or 0):
            raise ValueError(
                f"stride = {self.stride}, pool = {self.pool}: the windows leave gaps. Make pool at least as large as stride"
            )
        return self

    def convolved(self, size: int) -> int:
        """The size of the maps after its convolution, for inputs of that size; below 1 if the filters do not fit."""
        return size + 2 * self.pad - self.kernel + 1

    def pooled(self, size: int) -> int:
        """The size of those maps after pooling: ceil((size - pool) / stride) + 1 if it pools."""
        if not self.pool:
            return size
        return math.ceil((size - self.pool) / (self.stride or self.pool)) + 1


class Keep(Settings):
    """The fractions of a layer's inputs that dropout keeps, each independently, in training; 1 is no dropout."""

    image: Probability = 1.0
    """the fraction of the image's values; they are not rescaled"""
    hidden: Probability = 1.0
    """the fraction of all other layers' inputs, the linear layer's included; they are divided by it"""


class MaxoutNetwork(Network):
    """Convolutional maxout layers, fully connected ones, a linear layer.

    Taps are `layer1`, `layer2`, ..., as the FitNets paper counts: after a layer's pooling, fully connected layers included.
    """

    architecture: Literal["maxout"]
    """the kind of network"""
    layers: Annotated[tuple[MaxoutLayer, ...], *NotEmptyTuple]
    """its layers except the last, linear one, which follows from the classes"""
    softmax_limit: PositiveReal | None = None
    """the `limit` of the linear layer"""
    init: Literal["unit"] | PositiveReal = 0.005
    """how weights are drawn: uniformly between minus and plus this number, as in the authors' code; or `unit`, from normal
    distributions, so that a layer's outputs are as large as its inputs"""
    keep: Keep = Keep()
    """dropout"""

    @field_validator("layers")
    @classmethod
    def _full_ones_last(cls, layers: tuple[MaxoutLayer, ...]) -> tuple[MaxoutLayer, ...]:
        for number, (before, layer) in enumerate(pairwise(layers), 2):
            if before.full and layer.conv:
                raise ValueError(
                    f"layer {number}, conv = {layer.conv}, comes after full = {before.full}, which leaves no feature map. Put "
                    f"it before"
                )
        return layers

    @property
    def parts(self) -> tuple[str, ...]:
        return (*(f"layer{number}" for number, _ in enumerate(self.layers, 1)), "logits")

    @property
    def layer_count(self) -> int:
        return len(self.layers) + 1

    @property
    def name(self) -> str:
        return f"maxout{self.layer_count}"

    def layer(self, tap: str) -> MaxoutLayer:
        """The layer that ends at a tap other than `logits`."""
        return self._layers_to(tap)[-1]

    def channels(self, tap: str) -> int:
        """The channels, or the units of a fully connected layer."""
        layer = self.layer(tap)
        return layer.conv or layer.full

    @property
    def maps(self) -> tuple[str, ...]:
        return tuple(tap for tap, layer in zip(self.parts, self.layers, strict=False) if layer.conv)

    def size(self, tap: str, pixels: int) -> int:
        """1 after a fully connected layer."""
        size = pixels
        for layer in self._layers_to(tap):
            size = layer.pooled(layer.convolved(size)) if layer.conv else 1
        return size

    def size_problem(self, size: tuple[int, int]) -> str | None:
        maps = size
        for tap, layer in zip(self.parts, self.layers, strict=False):
            if layer.full:
                break
            convolved = tuple(map(layer.convolved, maps))
            too_small = None
            if min(convolved) < 1:
                too_small = f"kernel = {layer.kernel}, pad = {layer.pad}", maps
            elif layer.pool and min(convolved) < layer.pool:
                too_small = f"pool = {layer.pool}", convolved
            if too_small:
                what, (height, width) = too_small
                return (
                    f"{self.name}, {tap}: {what} does not fit into maps of {width}x{height}. Give larger images, or another "
                    f"network."
                )
            maps = tuple(map(layer.pooled, convolved))
        return None

    def _layers_to(self, tap: str) -> tuple[MaxoutLayer, ...]:
        """The layers up to a tap other than `logits`."""
        return self.layers[: self.parts[:-1].index(tap) + 1]
