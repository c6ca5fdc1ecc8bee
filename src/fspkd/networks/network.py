"""What every network is to those who plan with it."""

from typing import NamedTuple

from fspkd.settings import Settings


class UpdateRule(NamedTuple):
    """How an optimizer treats the parameters of a module that carries this as `update_rule`; without one, as here."""

    rate: float = 1.0
    """what the learning rate is multiplied by"""
    limit: float | None = None
    """the L2 norm that each filter of `weight` (its first axis) is scaled down to after an update, where it is longer"""


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
        """The taps at the ends of its sections, where it has such."""
        return ()

    @property
    def maps(self) -> tuple[str, ...]:
        """The taps with feature maps, in order."""
        raise NotImplementedError

    @property
    def layer_count(self) -> int:
        """Layers with weights, on the longest way from images to `logits`."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What the field calls it, such as resnet26: after its layers with weights."""
        raise NotImplementedError

    def channels(self, tap: str) -> int:
        """The channels of the feature map at a tap."""
        raise NotImplementedError

    def size(self, tap: str, pixels: int) -> int:
        """The height, or width, of the feature map at a tap, of images of that height, or width."""
        raise NotImplementedError

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Why it cannot compute images of that height and width and what to do, or None where it can."""
        return None
