"""torchvision's nets for classification, by its names for them.

Their feature maps and sizes are found from the nets themselves, so plans with such nets import torch; others do not.
"""

from __future__ import annotations

import operator
import warnings
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import field_validator

from fspkd.lazy import feature_extraction, torch, torch_fx, torchvision_models, torchvision_ops
from fspkd.networks.network import Network
from fspkd.settings import suggest

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models.feature_extraction import DualGraphModule

NATURAL = (224, 224)  # the size that every one of them accepts
IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul}


class Tap(NamedTuple):
    """A place in a net."""

    node: str
    """torchvision's name for it"""
    shape: tuple[int, ...]
    """of its features, for a one-image batch"""


def untrained(model: str, **settings: int) -> nn.Module:
    """A torchvision net, its weights drawn by PyTorch's global generator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about initialisations that a later torchvision may change
        try:
            return torchvision_models.get_model(model, weights=None, **settings)
        except NotImplementedError:
            # RegNets compute their widths with tensors, which have no values on the device `meta`.
            with torch.device("cpu"):
                return torchvision_models.get_model(model, weights=None, **settings).to("meta")


def node_names(net: nn.Module, leaves: tuple[type, ...]) -> tuple[list[str], list[str]]:
    """The names of a net's nodes in training and in evaluation. Modules of the classes `leaves` are one node each."""
    return feature_extraction.get_graph_node_names(net, {"leaf_modules": list(leaves)}, suppress_diff_warning=True)


def extractor(
    net: nn.Module, train: dict[str, str], evaluation: dict[str, str], leaves: tuple[type, ...]
) -> DualGraphModule:
    """A module that shares a net's layers and gives features, by new names, at the nodes named for training and evaluation.

    Nothing in it is computed in place, so that no later layer overwrites the features read at an earlier one.
    """
    graphs = feature_extraction.create_feature_extractor(
        net,
        train_return_nodes=train,
        eval_return_nodes=evaluation,
        tracer_kwargs={"leaf_modules": list(leaves)},
        suppress_diff_warning=True,
    )
    for module in net.modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    for graph in (graphs.train_graph, graphs.eval_graph):
        for node in graph.nodes:
            node.target = IN_PLACE.get(node.target, node.target)
            if "inplace" in node.kwargs:
                node.kwargs = {**node.kwargs, "inplace": False}
    graphs.graph = graphs.train_graph if graphs.training else graphs.eval_graph
    return graphs


@cache
def _traced(model: str) -> DualGraphModule:
    """An extractor of every node of a net in evaluation mode that computes only shapes."""
    with torch.device("meta"):
        net = untrained(model).eval()
    leaves = (torchvision_ops.StochasticDepth,)
    train, evaluation = node_names(net, leaves)
    return extractor(net, {name: name for name in train}, {name: name for name in evaluation}, leaves)


@cache
def taps(model: str, size: tuple[int, int] = NATURAL) -> dict[str, Tap]:
    """The taps of a net, in order, for images of that height and width: nodes, and modules, read at their last node.

    Raises whatever the net raises if it cannot process such images.
    """
    with torch.no_grad():
        found = torch_fx.Interpreter(_traced(model)).run(torch.empty(1, 3, *size, device="meta"))
    named: dict[str, Tap] = {}
    for node, features in found.items():
        if isinstance(features, torch.Tensor):
            parts = node.split(".")
            for end in range(1, len(parts) + 1):
                name = ".".join(parts[:end])
                named.pop(name, None)
                named[name] = Tap(node, tuple(features.shape))
    return named


@cache
def maps(model: str) -> tuple[str, ...]:
    """The taps with feature maps (B, C, H, W): where images of twice the height give maps that are higher, and no wider."""
    height, width = NATURAL
    try:
        higher = taps(model, (2 * height, width))
    except Exception:  # a net for images of one size
        return ()
    shapes = {name: (tap.shape, higher[name].shape) for name, tap in taps(model).items()}
    return tuple(
        name
        for name, (own, other) in shapes.items()
        if len(own) == 4 and own[1::2] == other[1::2] and own[2] < other[2]
    )


class TorchvisionNetwork(Network):
    """A net of torchvision.models for classification, such as resnet50 or mobilenet_v3_small, with its initialisation.

    Taps are named as torchvision's feature extraction names them: layers such as `layer3` or `features.8`, at their ends, and
    operations in them, such as `layer3.0.add`. Images are normalised as for ImageNet; grey ones get three equal channels.
    """

    architecture: Literal["torchvision"]
    """the kind of network"""
    model: str
    """torchvision's name for it"""

    @field_validator("model")
    @classmethod
    def _classifies(cls, model: str) -> str:
        names = torchvision_models.list_models(module=torchvision_models)
        if model not in names:
            raise ValueError(f"{model!r}: torchvision has no such classification net{suggest(model, names)}")
        try:
            logits = [tap.shape for tap in taps(model).values()][-1]
        except Exception as error:  # whatever tracing raises for a net that it cannot handle
            raise ValueError(
                f"{model!r}: torchvision cannot extract its features ({error}). Name another net"
            ) from None
        if len(logits) != 2:
            raise ValueError(f"{model!r}: does not end with logits. Name another net")
        return model

    @property
    def parts(self) -> tuple[str, ...]:
        return (*taps(self.model), "logits")

    @property
    def maps(self) -> tuple[str, ...]:
        return maps(self.model)

    @property
    def layer_count(self) -> int:
        """Its convolutions and linear layers on the longest path."""
        traced = _traced(self.model)
        depth = {}
        for node in traced.eval_graph.nodes:
            modules = traced.get_submodule(node.target).modules() if node.op == "call_module" else ()
            own = sum(isinstance(module, torch.nn.Conv2d | torch.nn.Linear) for module in modules)
            depth[node] = max((depth[other] for other in node.all_input_nodes), default=0) + own
        return max(depth.values())

    @property
    def name(self) -> str:
        return self.model

    def channels(self, tap: str) -> int:
        return taps(self.model)[tap].shape[1]

    def size(self, tap: str, pixels: int) -> int:
        return taps(self.model, (pixels, pixels))[tap].shape[2]

    def size_problem(self, size: tuple[int, int]) -> str | None:
        try:
            taps(self.model, size)
        except Exception as error:
            # Each net has its own error for images that are too small, or not of the one size that it accepts.
            reason = str(error).strip().split("\n")[0]
            return f"{self.model} cannot compute them ({reason}). Give the data set a 'size', or another network."
        return None

    def activation(self, tap: str) -> nn.Module:
        """The non-linearity that gives the features at a tap, or the identity if another operation gives them."""
        traced = _traced(self.model)
        node = dict(traced.eval_graph.output_node().args[0])[taps(self.model)[tap].node]
        if node.op == "call_module":
            *_, module = traced.get_submodule(node.target).modules()
            if type(module).__module__ == "torch.nn.modules.activation" and not list(module.parameters()):
                return type(module)()
        if getattr(node.target, "__name__", "") in ("relu", "relu_"):
            return torch.nn.ReLU()
        return torch.nn.Identity()
