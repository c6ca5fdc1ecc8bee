"""Weights that were trained elsewhere: torchvision's, downloaded, or a file on disk."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from fspkd import weights
from fspkd.config.data import WEIGHTS_FILES
from fspkd.data.sets import WEIGHTS_VARIABLE, PretrainedWeights
from fspkd.data.sources import DOWNLOADS, with_retries
from fspkd.errors import UserError
from fspkd.files import file_sha256
from fspkd.models import build, imagenet_resnet, torchvision
from fspkd.models.imagenet_resnet import DEVIATION, MEAN
from fspkd.networks.network import Network

RENAMED = {"imagenet_resnet": imagenet_resnet.from_torchvision, "torchvision": torchvision.from_torchvision}
State = dict[str, Tensor]
# Image shapes (C, H, W) and class counts that all differ: a tensor of one shape for both has it for all.
UNLIKE = (((3, 2048, 2048), 1), ((1, 1024, 1024), 2))
PREFIXES = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before parameter names
ALONE = "Save only the state dict, in the program that has the net: torch.save(net.state_dict(), 'own.pt')."
NAMED = 3  # names in a message
OTHER_RANGE = ("GoogLeNet_", "Inception_V3_")  # with these weights torchvision's own nets normalise once more


def pack_weights(pretrained: PretrainedWeights) -> Path:
    """Write pretrained weights as those of a run, without the linear layer if nets start from them; return the path.

    Raises UserError if the file is missing, damaged, not the one that the preset pins, or of another network. Shapes
    that depend on the training images are checked only when a net is trained.
    """
    _check_normalisation(pretrained)
    file = _file(pretrained)
    settings, where = pretrained.settings, f"pretrained weights {pretrained.name!r}, {file}"
    sha256 = file_sha256(file)
    if not sha256.startswith(settings.sha256):
        raise UserError(
            f"{where}: this is not the file that the preset pins: sha256 = {settings.sha256}, but the file has {sha256}. "
            f"Name or pin the weights that you want to use; if the file was downloaded, delete it and it is downloaded again."
        )
    try:
        state = _renamed(_state(file), pretrained.network)
    except ValueError as problem:
        raise UserError(f"{where}: {problem}") from None
    with torch.device("meta"):  # shapes only
        net, other = (build(pretrained.network, shape, classes, None) for shape, classes in UNLIKE)
    expected, others = net.state_dict(), other.state_dict()
    own = () if pretrained.whole else (f"{net.classifier}.",)  # not kept, whatever it holds
    # Old files lack these; nothing reads them.
    state = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")} | state
    fixed = {name: tensor.shape if tensor.shape == others[name].shape else None for name, tensor in expected.items()}
    if problem := _misfit(state, {name: shape for name, shape in fixed.items() if not name.startswith(own)}, own):
        raise UserError(
            f"{where}: {problem}: these are not weights of network {settings.network!r}. Name the network "
            f"that they belong to."
        )
    state = {name: state[name].to(expected[name].dtype) for name in expected if not name.startswith(own)}
    weights.save_weights(state, pretrained.path, pretrained.id)
    return pretrained.path


def _check_normalisation(pretrained: PretrainedWeights) -> None:
    """Raise UserError for torchvision weights that expect images normalised in another way than our nets do."""
    from torchvision.models import get_weight

    given = pretrained.settings.weights
    if pretrained.settings.is_file:
        return
    try:
        expected = get_weight(given).transforms()
    except (ValueError, AttributeError, KeyError):  # no such weights, which `_file` reports
        return
    usual = [list(MEAN), list(DEVIATION)]
    if [getattr(expected, name, None) for name in ("mean", "std")] != usual or given.startswith(OTHER_RANGE):
        raise UserError(
            f"pretrained.{pretrained.name}.weights = {given!r}: were trained on images that were normalised differently: "
            f"nets here get images normalised by ImageNet's mean and standard deviation. Give the weights of another network."
        )


def _state(file: Path) -> State:
    """The state dict that a file is, or holds under some key, with the net's own names.

    Raises ValueError, which says what to do, for a file without a state dict, and for one with several.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # unpickling raises anything; PyTorch also says how to trust the file
        if pickled := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(f"holds no state dict: it has a pickled {pickled[1]}. {ALONE}") from None
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"holds no state dict: {reason or type(error).__name__}. {ALONE}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"holds no state dict: it has a {type(content).__name__}. {ALONE}")
    held = {"": content} if _is_state(content) else {key: value for key, value in content.items() if _is_state(value)}
    if not held:
        raise ValueError(f"holds no state dict: none of {_some(content)} maps names to tensors. {ALONE}")
    if len(held) > 1:
        raise ValueError(f"holds {len(held)} state dicts, under {_some(held)}. Save the one that you mean alone.")
    (state,) = held.values()
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return dict(state)


def _is_state(content: object) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())


def _renamed(state: State, network: Network) -> State:
    """A state dict of torchvision's net, or of this project's, under this project's names."""
    if network.architecture == "torchvision" and all(name.startswith("model.") for name in state):
        return state
    return RENAMED.get(network.architecture, dict)(state)


def _misfit(state: State, needed: Mapping[str, torch.Size | None], others: tuple[str, ...]) -> str | None:
    """How a state dict differs from the needed names and shapes, ignoring names that begin like `others`; or None."""
    missing = [name for name in needed if name not in state]
    foreign = [name for name in state if name not in needed and not name.startswith(others)]
    problems = [f"it lacks {len(missing)} of {len(needed)} tensors, such as {_some(missing)}"] if missing else []
    problems += [f"it has {len(foreign)} that do not belong there, such as {_some(foreign)}"] if foreign else []
    problems = problems or [
        f"{name} should have shape {tuple(shape)}, but has {tuple(state[name].shape)}"
        for name, shape in needed.items()
        if shape is not None and state[name].shape != shape
    ]
    return " and ".join(problems[:2]) or None


def _some(names: Collection[str]) -> str:
    return ", ".join(list(map(str, names))[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _file(pretrained: PretrainedWeights) -> Path:
    """The file that is set for this machine, or that the preset names, or else torchvision's, downloaded."""
    variable, given = WEIGHTS_VARIABLE.format(name=pretrained.name.upper()), pretrained.settings.weights
    key = f"pretrained.{pretrained.name}.weights = {given!r}"
    if pretrained.location or pretrained.settings.is_file:
        file = Path(pretrained.location or given)
        if not file.is_file():
            if pretrained.location:
                raise UserError(f"{variable} = {pretrained.location!r}: no such file. Set it to the path of {given}.")
            raise UserError(f"{key}: no such file. Name an existing file, or set {variable} to its path.")
        return file
    from torchvision.models import get_weight

    try:
        url = get_weight(given).url
    except (ValueError, AttributeError, KeyError):
        raise UserError(
            f"{key}: torchvision has no such weights. Give a name such as ResNet34_Weights.IMAGENET1K_V1, or a file that ends "
            f"in {' or '.join(WEIGHTS_FILES)}; or set {variable} to a file."
        ) from None
    file = DOWNLOADS / url.rsplit("/", 1)[1]
    if not file.exists():
        with_retries(lambda: torch.hub.download_url_to_file(url, str(file), progress=False), variable)
    return file
