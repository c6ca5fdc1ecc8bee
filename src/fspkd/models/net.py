"""What all nets have in common: named parts, and a tap after each."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fspkd.draws import Draws
from fspkd.networks.network import Network

Taps = Callable[[Tensor, tuple[str, ...]], dict[str, Tensor]]  # feature maps of images, at the named taps


class Net(nn.Module):
    """A net of named parts, each computed from the output of the one before, from images to `logits`, (B, classes).

    A part has a tap of its own name at its end, and may have earlier ones, `part.other`, which the network lists in its
    `maps`. It changes nothing in place that it was given: that is the tap before it. `shape`: (C, H, W) of its images.
    `classifier`: the name of the module that gives the logits.
    """

    classifier = "linear"

    def __init__(self, network: Network, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network, self.shape = network, shape
        self.parts = network.parts

    def part(self, name: str, x: Tensor) -> dict[str, Tensor]:
        """The feature maps at the taps of a part, the last of them at its end."""
        raise NotImplementedError

    def regressor(
        self, tap: str, channels: int, kernel: tuple[int, int], init: float | None, generator: torch.Generator
    ) -> nn.Sequential:
        """A convolution and the non-linearity at a tap, from maps of `channels` channels to those at the tap.

        Its weights are uniform between minus and plus `init`, or normal, with a variance that keeps the maps' mean square;
        biases are 0.
        """
        conv, activation = nn.Conv2d(channels, self.network.channels(tap), kernel), self.activation(tap)
        if init is None:
            linear = isinstance(activation, nn.Identity)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="linear" if linear else "relu", generator=generator)
        else:
            nn.init.uniform_(conv.weight, -init, init, generator=generator)
        nn.init.zeros_(conv.bias)
        return nn.Sequential(conv, activation)

    def activation(self, tap: str) -> nn.Module:
        """The non-linearity that gives the feature maps at a tap."""
        return nn.ReLU()

    def map_size(self, tap: str) -> tuple[int, int]:
        """The height and width of the feature map at a tap."""
        return tuple(self.network.size(tap, pixels) for pixels in self.shape[1:])

    def randomise(self, draws: Draws, iteration: Callable[[], Tensor]) -> None:
        """If training needs random numbers, such as dropout's, make them a function of these arguments and nothing else.

        `iteration` returns the number of the current iteration, (1,) int64 on the net's device.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, classes)."""
        return self.taps(x, ("logits",))["logits"]

    def taps(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        """The feature maps at the named taps, in order of depth; computes no part beyond the last of them."""
        found = {}
        for part in self.parts_to(names):
            taps = self.part(part, x)
            found |= {tap: features for tap, features in taps.items() if tap in names}
            x = taps[part]
        return found

    def frozen(self, precision: torch.dtype) -> "Net":
        """A frozen copy in evaluation mode, as fast to compute in `precision` as the architecture allows."""
        net = copy.deepcopy(self).eval()
        net.fold(precision)
        return net.requires_grad_(False)

    def compiler(self) -> str | None:
        """The compiler of this package's code that trains the net on a CPU; None if only PyTorch's kernels are used."""
        return None

    def fold(self, precision: torch.dtype) -> None:
        """Convert convolutions and linear layers to `precision`; nets with layers to merge override this."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(precision)

    def parts_to(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The parts that the named taps need, in order."""
        last = max(self.parts.index(name.split(".")[0]) for name in names)
        return self.parts[: last + 1]

    def parameters_to(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        """The parameters that the named taps depend on, in the order of the net's own."""
        wanted = {self.classifier if part == "logits" else part for part in self.parts_to(names)}
        return [p for name, module in self.named_children() if name in wanted for p in module.parameters()]
