"""Weights from files on disk: what they may be, and what is said of others."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Project
from torch import Tensor, nn

from fspkd.data.packed import load_data
from fspkd.data.pretrained import pack_weights
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.files import file_sha256
from fspkd.models import build
from fspkd.train.nets import initial_net

FILE = Path("mine.pt")
MAXOUT = {"architecture": "maxout", "layers": [{"conv": 3, "kernel": 3, "pad": 1, "pool": 2}, {"full": 5}]}


@pytest.fixture
def project(project: Project) -> Project:
    """The tiny preset's teachers alone."""
    project.content |= {"timings": {}, "figures": {}, "claims": None}
    project.content["rows"] = {"teacher": project.content["rows"]["teacher"]}
    project.content["tables"]["table1"]["rows"] = {"Teacher": "teacher"}
    project.write()
    return project


def a_net(project: Project, network: str = "net", classes: int = 10, channels: int = 1) -> nn.Module:
    """A net of the preset, of other weights than any run draws."""
    generator = torch.Generator().manual_seed(7)
    return build(project.plan().preset.networks[network], (channels, 8, 8), classes, generator)


def name_file(project: Project, content: object, **pretrained: str) -> None:
    """Save something as weights that the row `teacher` starts from."""
    torch.save(content, FILE)
    entry = {"weights": str(FILE), "network": "net", "sha256": file_sha256(FILE)[:8], **pretrained}
    project.content["pretrained"] = {"mine": entry}
    project.content["rows"]["teacher"] |= {"network": entry["network"], "start": "mine"}
    project.write()


@pytest.mark.parametrize("network", ["net", "maxout", "imagenet", "mobile"])
def test_a_row_starts_from_a_file_of_any_network(project: Project, network: str) -> None:
    others = {
        "maxout": MAXOUT,
        "imagenet": {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4},
        "mobile": {"architecture": "torchvision", "model": "mobilenet_v3_small"},
    }
    project.set("networks", {**project.content["networks"], **others})
    net = a_net(project, network, classes=7)
    name_file(project, net.state_dict(), network=network)
    run = project.plan().net("teacher/1")
    pack_weights(run.start)
    started = initial_net(run, Images(load_data(run.data), run.spec.augment, torch.device("cpu"))).state_dict()
    for name, tensor in net.state_dict().items():
        own = name.startswith(f"{net.classifier}.")
        assert own or torch.equal(started[name], tensor), name
    assert len(started[f"{net.classifier}.bias"]) == 10


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda s: {"epoch": 3, "model": s}, r"its keys are epoch, model, and weights are below 'model'"),
        (
            lambda s: {"state_dict": prefixed(s, "module."), "best": 0.9, "args": None, "optimizer": {}},
            r"its keys are state_dict, best, args, ..., and weights are below 'state_dict'",
        ),
        (lambda s: prefixed(s, "module."), r"all its names begin with 'module.', such as module.stem.0.weight, "),
    ],
)
def test_wrapped_weights_are_told_with_a_command_that_unwraps_them(
    project: Project, wrap: Callable[[dict], dict], message: str
) -> None:
    state = a_net(project).state_dict()
    name_file(project, wrap(state))
    with pytest.raises(UserError, match=message) as problem:
        pack_weights(project.plan().pretrained["mine"])
    _, _, program = shlex.split(re.search(r"python -c .*", str(problem.value))[0])  # as a shell would
    exec(program, {})
    unwrapped = torch.load("mine_own.pt")
    assert unwrapped.keys() == state.keys()
    assert all(torch.equal(unwrapped[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            nn.Linear(2, 2),
            r"holds no state dict: it has a pickled torch.nn.modules.linear.Linear. Save the state dict alone",
        ),
        ([torch.zeros(2)], r"holds no state dict: it has a list"),
        ({"epoch": 3}, r"holds no state dict: none of epoch has tensors by name"),
    ],
)
def test_what_is_no_state_dict_is_told_without_advice_to_trust_it(
    project: Project, content: object, message: str
) -> None:
    name_file(project, content)
    with pytest.raises(UserError, match=message) as problem:
        pack_weights(project.plan().pretrained["mine"])
    assert "weights_only" not in str(problem.value)


def test_a_damaged_file_is_told_in_a_sentence(project: Project) -> None:
    name_file(project, {})
    FILE.write_bytes(b"no weights")
    project.set("pretrained.mine.sha256", file_sha256(FILE))
    with pytest.raises(UserError, match=r"mine.pt: holds no state dict: Weights only load failed. Save the state"):
        pack_weights(project.plan().pretrained["mine"])


def test_weights_of_another_net_are_told_by_the_names_that_differ(project: Project) -> None:
    project.content["networks"] |= {
        "deeper": {"architecture": "cifar_resnet", "depth": 14, "width": 4},
        "wider": {"architecture": "cifar_resnet", "depth": 8, "width": 8},
    }
    project.write()

    def check(network: str, message: str) -> None:
        name_file(project, a_net(project, network).state_dict())
        with pytest.raises(UserError, match=rf"mine.pt: {message}.*another network than 'net'"):
            pack_weights(project.plan().pretrained["mine"])

    check("deeper", r"it has 36 that do not belong there, such as section1.1.conv1.weight, ")
    check("wider", r"stem.2.weight should be \(4,\) and is \(8,\)")
    name_file(project, {"conv1.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"it lacks \d+ of \d+ tensors, such as stem.0.weight, .* and it has 1 that do"):
        pack_weights(project.plan().pretrained["mine"])


def test_a_file_that_is_not_there_is_named_with_the_variable(project: Project) -> None:
    name_file(project, {}, weights="/nowhere/x.pth")
    with pytest.raises(UserError, match=r"weights = '/nowhere/x.pth': no such file. Name .* or set FSPKD_WEIGHTS_MINE"):
        pack_weights(project.plan().pretrained["mine"])
    elsewhere = project.plan({"FSPKD_WEIGHTS_MINE": "/nowhere/y.pth"}).pretrained["mine"]
    with pytest.raises(UserError, match=r"FSPKD_WEIGHTS_MINE = '/nowhere/y.pth': no such file"):
        pack_weights(elsewhere)
    project.content["networks"]["net"] = {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4}
    project.set("pretrained.mine.weights", "x.ckpt")
    with pytest.raises(UserError, match=r"'x.ckpt': torchvision has no .* ends in .pt or .pth or .bin; or set FSPKD_W"):
        pack_weights(project.plan().pretrained["mine"])


def test_where_the_file_lies_renames_nothing(project: Project) -> None:
    name_file(project, a_net(project).state_dict())
    before = project.plan().net("teacher/1").id
    FILE.rename("other.pth")
    project.set("pretrained.mine.weights", "other.pth")
    assert project.plan().net("teacher/1").id == before


def test_torchvision_has_no_weights_for_these_nets(project: Project) -> None:
    name_file(project, a_net(project).state_dict(), weights="ResNet34_Weights.IMAGENET1K_V1")
    with pytest.raises(
        UserError, match=r"mine.network = 'net': is a cifar_resnet, .*, or as weights a file that ends in"
    ):
        project.plan()
