"""Weights that were trained elsewhere: torchvision's for ImageNet, downloaded or on disk."""

from pathlib import Path

import torch

from fspkd import weights
from fspkd.data.sets import WEIGHTS_VARIABLE, PretrainedWeights
from fspkd.data.sources import DOWNLOADS, with_retries
from fspkd.errors import UserError
from fspkd.files import file_sha256
from fspkd.models import build, imagenet_resnet, torchvision

IMAGENET = (3, 224, 224)  # channels and pixels of its images
RENAMED = {"imagenet_resnet": imagenet_resnet.from_torchvision, "torchvision": torchvision.from_torchvision}


def pack_weights(pretrained: PretrainedWeights) -> Path:
    """Write pretrained weights as those of a run, without the linear layer; gives the path.

    Raises UserError where the file is missing, damaged, not the one that the preset pins, or of another network.
    """
    file = _file(pretrained)
    settings, where = pretrained.settings, f"pretrained weights {pretrained.name!r}, {file}"
    sha256 = file_sha256(file)
    if not sha256.startswith(settings.sha256):
        raise UserError(
            f"{where}: this is not the file that the preset pins: sha256 = {settings.sha256}, and the file has {sha256}. "
            f"Delete it to download it again, or pin the weights that you mean."
        )
    try:
        state = RENAMED[pretrained.network.architecture](torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever unpickling meets in a file that is no state dict
        raise UserError(
            f"{where}: holds no state dict: {error}. It must be saved by torch.save(net.state_dict())."
        ) from None
    net = build(pretrained.network, IMAGENET, 1, None)
    expected = {name: tensor for name, tensor in net.state_dict().items() if not name.startswith(f"{net.classifier}.")}
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, tensor)  # which old files lack, and nothing reads
        if name not in state or state[name].shape != tensor.shape:
            found = tuple(state[name].shape) if name in state else "nothing"
            raise UserError(
                f"{where}: {name} should be {tuple(tensor.shape)} and is {found}: these are weights of another network than "
                f"{settings.network!r}. Name the network that they belong to."
            )
    state = {name: state[name] for name in expected}
    weights.save_weights(state, pretrained.weights, pretrained.id)
    return pretrained.weights


def _file(pretrained: PretrainedWeights) -> Path:
    """The file at the place that is set for this machine, or else torchvision's, downloaded."""
    variable = WEIGHTS_VARIABLE.format(name=pretrained.name.upper())
    if pretrained.location:
        file = Path(pretrained.location)
        if not file.is_file():
            raise UserError(
                f"{variable} = {pretrained.location!r}: no such file. Set it to {pretrained.settings.weights}."
            )
        return file
    from torchvision.models import get_weight

    try:
        url = get_weight(pretrained.settings.weights).url
    except (ValueError, AttributeError, KeyError):
        raise UserError(
            f"pretrained.{pretrained.name}.weights = {pretrained.settings.weights!r}: torchvision has no such weights. Give a "
            f"name such as ResNet34_Weights.IMAGENET1K_V1."
        ) from None
    file = DOWNLOADS / url.rsplit("/", 1)[1]
    if not file.exists():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        with_retries(lambda: torch.hub.download_url_to_file(url, str(file), progress=False), variable)
    return file
