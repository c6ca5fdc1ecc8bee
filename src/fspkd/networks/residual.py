"""Residual networks [He et al., CVPR 2016]."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from fspkd.networks.network import Network
from fspkd.settings import PositiveInt


class ResidualNetwork(Network):
    """A stem, sections of residual modules, global average pooling, a linear layer.

    Every section but the first begins by halving the size and doubling the channels. `modules`, a field or a property of
    subclasses, gives the number of modules of each section. Taps are named `stem`, `section1`, `section2`, ...
    (outputs of sections), and `section1.first`, ... (outputs of their first modules).
    """

    stem_stride: ClassVar[int] = 1
    width: PositiveInt
    """channels of the stem and of the first section"""

    @property
    def parts(self) -> tuple[str, ...]:
        return ("stem", *self.sections, "pooled", "logits")

    @property
    def sections(self) -> tuple[str, ...]:
        return tuple(f"section{number}" for number, _ in enumerate(self.modules, 1))

    @property
    def maps(self) -> tuple[str, ...]:
        return ("stem", *(tap for section in self.sections for tap in (f"{section}.first", section)))

    @property
    def layer_count(self) -> int:
        """Its convolutions on the main path and its linear layer: 26 for ResNet-26."""
        return 2 * sum(self.modules) + 2

    @property
    def name(self) -> str:
        return f"resnet{self.layer_count}"

    def channels(self, tap: str) -> int:
        return self.width * 2 ** self._halvings(tap)

    def size(self, tap: str, pixels: int) -> int:
        """Halves are rounded up."""
        return math.ceil(pixels / self.stem_stride / 2 ** self._halvings(tap))

    def _halvings(self, tap: str) -> int:
        return max(0, ("stem", *self.sections).index(tap.split(".")[0]) - 1)


class CifarNetwork(ResidualNetwork):
    """6n+2 layers in three sections [He et al. 2016, section 4.2]; shortcuts have no parameters."""

    architecture: Literal["cifar_resnet"] = "cifar_resnet"
    """the kind of network"""
    depth: PositiveInt
    """layers, 6n+2 for n modules a section: 8, 14, 20, 26, 32, ..."""

    @field_validator("depth")
    @classmethod
    def _six_n_plus_two(cls, depth: int) -> int:
        if depth < 8 or (depth - 2) % 6:
            raise ValueError("must be 6n+2: 8, 14, 20, 26, 32, ...")
        return depth

    @property
    def modules(self) -> tuple[int, ...]:
        return ((self.depth - 2) // 6,) * 3


class ImageNetNetwork(ResidualNetwork):
    """Four sections after a 7x7 stem [He et al. 2016, table 1]; modules 3, 4, 6, 3 and width 64 are ResNet-34."""

    stem_stride: ClassVar[int] = 4
    architecture: Literal["imagenet_resnet"] = "imagenet_resnet"
    """the kind of network"""
    modules: Annotated[tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt], Field(strict=False)]
    """residual modules of each section"""
