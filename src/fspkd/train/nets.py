"""Nets built from the files in run folders."""

import torch
from torch import Tensor, nn

from fspkd.data.sets import PretrainedWeights
from fspkd.engine import start
from fspkd.engine.batches import Images
from fspkd.engine.evaluate import accuracy_and_loss, predict
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.models.net import Net
from fspkd.runs.spec import Run
from fspkd.weights import load_checksum, load_weights, weights_sha256

NAMED = 5  # parameters in a message


def checksum(other: Run | PretrainedWeights) -> str:
    """The checksum of weights that a run starts or learns from: for another run's, the one in its manifest."""
    if isinstance(other, Run):
        return other.folder.read_manifest().weights_sha256
    return load_checksum(other.weights, other.id)


def _weights(other: Run | PretrainedWeights) -> dict[str, Tensor]:
    """Load the weights; raise UserError if they are missing, damaged, or not what a manifest says."""
    state = load_weights(other.weights, other.id)
    if isinstance(other, Run) and weights_sha256(state) != checksum(other):
        manifest = other.folder.manifest
        raise UserError(
            f"{other.weights}: these weights do not match {manifest.name} beside them. Delete {manifest} and make both "
            f"again: snakemake {manifest}"
        )
    return state


def initial_net(run: Run, images: Images) -> Net:
    """The net that a run trains, as it is at its start.

    Raises UserError if the weights that it starts from do not fit, or for an architecture with mistakes that training
    would not show: parameters that no part trains, that two layers share, or that the run's seed does not decide.
    """
    state = _weights(run.start) if run.start else None
    try:
        net = start.initial_net(run.spec, images, state, run.is_transfer)
    except RuntimeError as misfit:
        if run.start is None:
            raise
        raise UserError(
            f"run {run.id}: the weights of {run.start.id} do not fit images of {images.channels} channels: {misfit}. "
            f"Start from weights that were trained on such images."
        ) from None
    _check_trained(net)
    _check_own(f"architecture {run.network.architecture!r}", net)
    if state is None:
        _check_drawn(
            f"architecture {run.network.architecture!r}", net, start.initial_net(run.spec, images, None, False)
        )
    return net


def check_method(run: Run, student: Net, teacher: Net | None) -> None:
    """Raise UserError for mistakes in a method's own modules that training would not show.

    They share parameters with each other or the net, or the run's seed does not decide the values that they begin with.
    """
    method, draws = run.spec.method, run.spec.draws
    own, again = (nn.ModuleDict(method.modules(draws, student, teacher)) for _ in range(2))
    _check_own(f"method {method.method!r}", nn.ModuleDict({"method": own, "student": student}))
    _check_drawn(f"method {method.method!r}", own, again)


def _check_trained(net: Net) -> None:
    """Raise UserError if a net has parameters of no part, which no method would train; torchvision's go by layers instead."""
    if type(net).parameters_to is not Net.parameters_to:
        return
    trained = {id(parameter) for parameter in net.parameters_to(("logits",))}
    if left := [name for name, parameter in net.named_parameters() if id(parameter) not in trained]:
        raise UserError(
            f"architecture {net.network.architecture!r}: nothing would train {', '.join(left[:NAMED])}: a module with "
            f"parameters must have the name of the part that uses it ({', '.join(net.parts)}), or be the classifier, "
            f"{net.classifier!r}, or lie within one of these. Move it."
        )


def _check_own(what: str, modules: nn.Module) -> None:
    """Raise UserError if layers share a parameter: in bfloat16 the gradient of one of them would be lost."""
    owners: dict[int, list[str]] = {}
    for name, module in modules.named_modules():
        for parameter, tensor in module.named_parameters(recurse=False):
            owners.setdefault(id(tensor), []).append(f"{name}.{parameter}".removeprefix("."))
    if shared := next((names for names in owners.values() if len(names) > 1), None):
        raise UserError(
            f"{what}: {' and '.join(shared)} are one parameter, and gradients would be lost. Use one layer in both places."
        )


def _check_drawn(what: str, modules: nn.Module, again: nn.Module) -> None:
    """Raise UserError if modules that were built twice from one seed have other tensors."""
    others = again.state_dict()
    tensors = {name: value for name, value in modules.state_dict().items() if isinstance(value, Tensor)}
    if differ := [name for name, tensor in tensors.items() if not _same(tensor, others[name])]:
        raise UserError(
            f"{what}: {', '.join(differ[:NAMED])} would begin with other values each time: draw them from the generator that a "
            f"net is built with, or from draws.torch_generator(...) in a method, not from PyTorch's own."
        )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same values, NaN counting as one."""
    return torch.equal(one.isnan(), other.isnan()) and torch.equal(one.nan_to_num(), other.nan_to_num())


def teacher_accuracy(teacher: PretrainedWeights, images: Images) -> float:
    """The accuracy of pretrained weights on the test images, in percent, which no run has measured."""
    net = finished_net(teacher, images.shape, images.classes).to(images.device)
    return accuracy_and_loss(predict(net, images, images.test), images.test_labels)[0]


def finished_net(other: Run | PretrainedWeights, shape: tuple[int, int, int], classes: int) -> Net:
    """The net of a finished run, or of pretrained weights, for images of that shape (C, H, W) and that many classes.

    Raises UserError if pretrained weights are for other images or another number of classes.
    """
    net, state = build(other.network, shape, classes, None), _weights(other)
    if isinstance(other, PretrainedWeights):
        _check_fit(other, net, state)
    net.load_state_dict(state)
    return net


def _check_fit(teacher: PretrainedWeights, net: Net, state: dict[str, Tensor]) -> None:
    """Raise UserError if tensors have other shapes than a net's of the same names."""
    for name, tensor in net.state_dict().items():
        expected, found = tuple(tensor.shape), tuple(state[name].shape)
        if expected == found:
            continue
        if name.startswith(f"{net.classifier}.") and expected[0] != found[0]:
            problem = f"it distinguishes {found[0]} classes, but the data set has {expected[0]}"
        else:
            channels, height, width = net.shape
            problem = (
                f"for images of {width}x{height} pixels, {channels} channels, {name} should have shape {expected}, but has "
                f"{found}"
            )
        raise UserError(
            f"teacher {teacher.name!r}, {teacher.location or teacher.settings.weights}: {problem}. Name weights that were "
            f"trained on such images."
        )
