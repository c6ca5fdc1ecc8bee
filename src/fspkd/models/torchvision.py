"""torchvision's nets for classification, with its feature extraction."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from fspkd.draws import Draws
from fspkd.models.dropout import Dropout
from fspkd.models.imagenet_resnet import Normalise
from fspkd.models.net import Net
from fspkd.networks.torchvision import TorchvisionNetwork, extractor, node_names, taps, untrained


class DropElements(Dropout):
    """torch.nn.Dropout, with random numbers that are a function of the iteration."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


class DropImages(Dropout):
    """torchvision's StochasticDepth by rows, with random numbers that are a function of the iteration."""

    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x.new_ones(len(x), *[1] * (x.dim() - 1))) if self.training else x


class TorchvisionNet(Net):
    """A net of torchvision.models that reads images in [0, 1], (B, C, H, W) with one channel or three.

    Its weights are drawn as torchvision draws them, by PyTorch's generator in the state of `generator`.
    """

    def __init__(
        self, network: TorchvisionNetwork, shape: tuple[int, int, int], classes: int, generator: torch.Generator | None
    ) -> None:
        super().__init__(network, shape)
        self.normalise = Normalise(shape[0])
        with torch.random.fork_rng(devices=()):
            if generator:
                torch.set_rng_state(generator.get_state())
            self.model = untrained(network.model, num_classes=classes)
        self._take_over_dropout()
        *_, (self.classifier, _) = ((name, m) for name, m in self.named_modules() if [*m.parameters(recurse=False)])
        self.extractors: dict[tuple[str, ...], Any] = {}

    def _take_over_dropout(self) -> None:
        for parent in [*self.model.modules()]:
            for name, module in parent.named_children():
                if isinstance(module, nn.Dropout | StochasticDepth):
                    kind = DropElements if isinstance(module, nn.Dropout) else DropImages
                    keep = 1 - module.p
                    parent.add_module(name, kind(keep, 1 / keep) if keep < 1 else nn.Identity())

    def taps(self, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
        x = self.normalise(x)
        found = self._extractor(names)(x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1))
        return {name: found[node] for name, node in self._nodes(names).items()}

    def _nodes(self, names: tuple[str, ...]) -> dict[str, str]:
        """An extractor's names for the features at the named taps, in order of depth."""
        places = taps(self.network.model)
        return {name: places[name].node if name in places else name for name in self.parts if name in names}

    def _extractor(self, names: tuple[str, ...]) -> Any:
        if names not in self.extractors:
            leaves = (DropElements, DropImages)
            last = [names[-1] for names in node_names(self.model, leaves)]
            wanted = self._nodes(names).values()
            train, evaluation = ({(end if node == "logits" else node): node for node in wanted} for end in last)
            self.extractors[names] = extractor(self.model, train, evaluation, leaves).train(self.training)
        return self.extractors[names]

    def parameters_to(self, names: tuple[str, ...]) -> list[nn.Parameter]:
        reached = {id(parameter) for parameter in self._extractor(names).parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) in reached]

    def train(self, mode: bool = True) -> "TorchvisionNet":
        for other in self.extractors.values():
            other.train(mode)
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """All but the extractors: those of a copy must share the copy's layers, and are created when needed."""
        return {**self.__dict__, "extractors": {}}

    def activation(self, tap: str) -> nn.Module:
        return self.network.activation(tap)

    def randomise(self, draws: Draws, iteration: Callable[[], Tensor]) -> None:
        for name, module in self.model.named_modules():
            if isinstance(module, Dropout):
                module.randomise(draws, f"dropout {name}", iteration)


NET = TorchvisionNet


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A torchvision state dict under this net's names."""
    return {f"model.{name}": tensor for name, tensor in state.items()}
