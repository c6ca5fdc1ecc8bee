"""What every network is to those who plan with it."""

from fspkd.settings import Settings


class Network(Settings):
    """The settings of a net, and the shapes of its feature maps.

    `architecture` is the name of the module in models/ that builds it.
    """

    architecture: str
    """the kind of network"""

    @property
    def sections(self) -> tuple[str, ...]:
        """The taps at the ends of its sections, where it has such."""
        return ()

    @property
    def name(self) -> str:
        """What the field calls it, such as resnet26."""
        raise NotImplementedError

    def channels(self, tap: str) -> int:
        """The channels of the feature map at a tap."""
        raise NotImplementedError

    def size(self, tap: str, pixels: int) -> int:
        """The height, or width, of the feature map at a tap, of images of that height, or width."""
        raise NotImplementedError
