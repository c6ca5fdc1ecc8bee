"""What planning needs to know of every network."""

from typing import NamedTuple

from fspkd.settings import Settings


class UpdateRule(NamedTuple):
    """How an optimizer treats the parameters of a module with this as `update_rule`; without one, by these defaults."""

    rate: float = 1.0
    """the multiplier of the learning rate"""
    limit: float | None = None
    """the largest L2 norm of each filter of `weight` (its first axis); longer ones are scaled down to it after an update"""


class Network(Settings):
    """The settings of a net, and the shapes of its feature maps.

    `architecture` is the name of the module in models/ that builds it.
    """

    architecture: str
    """the kind of network"""

    @property
    def parts(self) -> tuple[str, ...]:
        """The taps at the ends of its parts, in order, from images to `logits`."""
        raise NotImplementedError

    @property
    def sections(self) -> tuple[str, ...]:
        """The taps at the ends of its sections, if it has any."""
        return ()

    @property
    def maps(self) -> tuple[str, ...]:
        """The taps with features that methods may read, in order, without `logits`: also those within parts, `part.other`."""
        raise NotImplementedError

    @property
    def layer_count(self) -> int:
        """Layers with weights, on the longest path from images to `logits`."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Its usual name, such as resnet26, by its number of layers with weights."""
        raise NotImplementedError

    def channels(self, tap: str) -> int:
        """The channels of the feature map at a tap."""
        raise NotImplementedError

    def size(self, tap: str, pixels: int) -> int:
        """The height, or width, of the feature map at a tap, for images of that height, or width."""
        raise NotImplementedError

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Why it cannot process images of that height and width and what to do, or None if it can."""
        return None
