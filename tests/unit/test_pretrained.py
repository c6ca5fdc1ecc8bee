"""Weights from files on disk: which are accepted, and the messages for others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Project, images_of
from pydantic import TypeAdapter
from torch import Tensor, nn

from fspkd.data.pretrained import pack_weights
from fspkd.errors import UserError
from fspkd.files import file_sha256
from fspkd.models import build
from fspkd.networks import AnyNetwork
from fspkd.plan import Plan
from fspkd.runs.spec import Run, check_finished
from fspkd.train.nets import finished_net, initial_net
from fspkd.weights import load_weights, weights_sha256
from fspkd.workflow.dvc import packed_files
from fspkd.workflow.training import training_rules

FILE = Path("mine.pt")


OTHERS = {
    "maxout": {"architecture": "maxout", "layers": [{"conv": 3, "kernel": 3, "pad": 1, "pool": 2}, {"full": 5}]},
    "imagenet": {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4},
    "mobile": {"architecture": "torchvision", "model": "mobilenet_v3_small"},
}
KD = {"method": "kd", "teacher": "mine", "schedule": "short"}


@pytest.fixture
def project(project: Project) -> Project:
    """The tiny preset with more networks, without what needs its rows unchanged."""
    project.content["networks"] |= OTHERS
    project.content |= {"timings": {}, "figures": {}, "claims": None}
    project.write()
    return project


@pytest.fixture
def starting(project: Project) -> Project:
    """Only its teachers, which start from weights."""
    project.content["rows"] = {"teacher": project.content["rows"]["teacher"] | {"start": "mine"}}
    project.content["tables"]["table1"]["rows"] = {"Teacher": "teacher"}
    return project


def a_net(project: Project, network: str = "net", classes: int = 10, channels: int = 1, size: int = 8) -> nn.Module:
    """A net of the preset, with weights that no run draws."""
    generator = torch.Generator().manual_seed(7)
    settings = TypeAdapter(AnyNetwork).validate_python(project.content["networks"][network], strict=False)
    return build(settings, (channels, size, size), classes, generator)


def name_file(project: Project, content: object, **pretrained: str) -> None:
    """Save something as the weights `mine`."""
    torch.save(content, FILE)
    entry = {"weights": str(FILE), "network": "net", "sha256": file_sha256(FILE)[:8], **pretrained}
    project.content["pretrained"] = {"mine": entry}
    project.write()


@pytest.mark.parametrize("network", ["net", *OTHERS])
def test_a_row_starts_from_a_file_of_any_network(starting: Project, network: str) -> None:
    """Also of a precision in which no weights are stored here."""
    net = a_net(starting, network, classes=7).bfloat16()
    starting.content["rows"]["teacher"]["network"] = network
    name_file(starting, net.state_dict(), network=network)
    run = starting.plan().net("teacher/1")
    pack_weights(run.start)
    started = initial_net(run, images_of(run)).state_dict()
    for name, tensor in net.state_dict().items():
        own = name.startswith(f"{net.classifier}.")
        assert own or torch.equal(started[name], tensor.to(started[name].dtype)), name
    assert len(started[f"{net.classifier}.bias"]) == 10


def test_a_net_that_starts_from_a_run_on_other_images_draws_only_its_classifier_anew(project: Project) -> None:
    project.set("data.images.classes", [0, 1, 2, 3, 4])
    project.set("data.others", {"name": "others", "source": "digits", "classes": [5, 6, 7, 8, 9]})
    row = project.content["rows"]["teacher"]
    project.set("rows.transferred", row | {"data": "others", "start": "teacher/1"})
    project.pack()
    project.train("teacher/1")
    run = project.plan().net("transferred/1")
    images = images_of(run)
    kept = load_weights(run.start.weights, run.start.id)
    started, scratch = (initial_net(of, images).state_dict() for of in (run, replace(run, start=None)))
    for name, tensor in started.items():
        assert torch.equal(tensor, (scratch if name.startswith("linear.") else kept)[name]), name
    assert not torch.equal(started["linear.weight"], kept["linear.weight"])


@pytest.mark.parametrize("network", ["net", *OTHERS])
def test_a_teacher_of_any_network_has_the_classifier_of_its_file(project: Project, network: str) -> None:
    net = a_net(project, network).eval()
    project.content["rows"]["student"] |= {"start": "mine" if network == "net" else "scratch", "stage2": KD}
    name_file(project, net.state_dict(), network=network)
    run = project.plan().net("student/1")
    pack_weights(run.teacher)
    images = images_of(run)
    x = images.to_input(images.test[:4])
    with torch.no_grad():
        assert torch.equal(finished_net(run.teacher, images.shape, images.classes).eval()(x), net(x))


def test_what_learns_from_a_file_is_what_learns_from_the_net_that_is_in_it(
    project: Project, capsys: pytest.CaptureFixture
) -> None:
    """For hints, distillation and FSP matrices, to the last bit; the file is the weights.pt of a run."""
    project.train("teacher/1", "fitnet/1", "student/1")
    before = project.plan()
    of_row = [weights_sha256(load_weights(run.weights, run.id)) for run in trained(before)]
    teacher = before.net("teacher/1")
    name_file(project, torch.load(teacher.weights))
    for stage in ("fitnet.stage1", "fitnet.stage2", "student.stage1"):
        project.set(f"rows.{stage}.teacher", "mine")
    after = project.plan()
    assert not {run.id for run in trained(after)} & {run.id for run in trained(before)}
    assert after.net("teacher/1").id == teacher.id
    (weights,) = after.teachers.values()
    pack_weights(weights)
    capsys.readouterr()
    for rule in training_rules([after], 1):
        for run in rule.jobs:
            needed = rule.inputs({"run": run})["weights"]
            assert (str(weights.path) in needed) == (after.run(run).teacher is not None)
    assert str(weights.path) in packed_files(after)
    project.train("fitnet/1", "student/1")
    accuracy = teacher.folder.read_manifest().test_accuracy
    assert capsys.readouterr().out.count(f"its teacher, mine, has {accuracy:.2f} % of the test images right") == 3
    assert [weights_sha256(load_weights(run.weights, run.id)) for run in trained(after)] == of_row
    manifest = after.net("fitnet/1").folder.read_manifest()
    assert manifest.inputs_sha256["teacher"] == teacher.folder.read_manifest().weights_sha256
    check_finished(trained(after))


def trained(plan: Plan) -> list[Run]:
    """A FitNet and a student of FSP matrices, both stages of each."""
    return [run for net in ("fitnet/1", "student/1") for run in (plan.net(net).start, plan.net(net))]


def test_nets_of_a_row_share_the_batches_of_a_teacher_from_elsewhere(project: Project) -> None:
    project.set("rows.student.stage1.teacher", "mine")
    project.set("rows.student.stage1_shared", False)
    name_file(project, {})
    assert [net.start.spec.batches for net in project.plan().nets("student")] == [None, None]


@pytest.mark.parametrize(
    ("network", "of", "message"),
    [
        (
            "net",
            {"classes": 7},
            r"teacher 'mine', mine.pt: it distinguishes 7 classes, but the data set has 10. Name weights",
        ),
        (
            "net",
            {"channels": 3},
            r"for images of 8x8 pixels, 1 channels, stem.0.weight should have shape \(1,\), but has \(3,\)",
        ),
        (
            "maxout",
            {"size": 12},
            r"for images of 8x8 pixels, .* layer2.1.weight should have shape \(10, 48\), but has \(10, 108\)",
        ),
    ],
)
def test_a_teacher_for_other_images_is_refused_before_training(
    project: Project, network: str, of: dict[str, int], message: str
) -> None:
    project.set("rows.student.stage2", KD)
    name_file(project, a_net(project, network, **of).state_dict(), network=network)
    run = project.plan().net("student/1")
    pack_weights(run.teacher)
    images = images_of(run)
    with pytest.raises(UserError, match=message):
        finished_net(run.teacher, images.shape, images.classes)


def test_a_teacher_needs_its_classifier(project: Project) -> None:
    project.set("rows.student.stage2", KD)
    state = a_net(project).state_dict()
    name_file(project, {name: tensor for name, tensor in state.items() if not name.startswith("linear.")})
    with pytest.raises(UserError, match=r"it lacks 2 of 49 tensors, such as linear.weight, linear.bias: these are"):
        pack_weights(project.plan().teachers["mine"])


def test_a_teacher_is_a_row_or_weights_and_not_both(project: Project) -> None:
    name_file(project, {})
    project.set("rows.student.stage1.teacher", "mein")
    with pytest.raises(
        UserError, match=r"stage1.teacher = 'mein': no such entry in rows or pretrained; did you mean 'mine'"
    ):
        project.plan()
    project.set("rows.student.stage1.teacher", "mine/1")
    with pytest.raises(UserError, match=r"stage1.teacher = 'mine/1': mine is an entry of pretrained, not of rows"):
        project.plan()
    project.set("rows.student.stage1.teacher", "mine")
    project.set("rows.mine", project.content["rows"]["teacher"])
    with pytest.raises(
        UserError, match=r"stage1.teacher = 'mine': is both a row and an entry of pretrained. Rename one"
    ):
        project.plan()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {"epoch": 3, "model": s},
        lambda s: {"state_dict": prefixed(s, "module."), "best": 0.9, "args": None, "optimizer": {}},
        lambda s: prefixed(s, "module."),
        lambda s: prefixed(s, "module._orig_mod."),
        lambda s: prefixed(s, "_orig_mod."),
    ],
)
def test_wrapped_weights_are_unwrapped(starting: Project, wrap: Callable[[dict], dict]) -> None:
    def packed(content: dict) -> dict[str, Tensor]:
        name_file(starting, content)
        mine = starting.plan().pretrained["mine"]
        return load_weights(pack_weights(mine), mine.id)

    state = a_net(starting).state_dict()
    expected, unwrapped = packed(state), packed(wrap(state))
    assert unwrapped.keys() == expected.keys()
    assert all(torch.equal(unwrapped[name], tensor) for name, tensor in expected.items())


def test_of_several_state_dicts_none_is_guessed(starting: Project) -> None:
    state = a_net(starting).state_dict()
    name_file(starting, {"model": state, "ema": state, "epoch": 3})
    with pytest.raises(UserError, match=r"mine.pt: holds 2 state dicts, under model, ema. Save the one"):
        pack_weights(starting.plan().pretrained["mine"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            nn.Linear(2, 2),
            r"holds no state dict: it has a pickled torch.nn.modules.linear.Linear. Save only the state dict",
        ),
        ([torch.zeros(2)], r"holds no state dict: it has a list"),
        ({"epoch": 3}, r"holds no state dict: none of epoch maps names to tensors"),
    ],
)
def test_what_is_no_state_dict_is_told_without_advice_to_trust_it(
    starting: Project, content: object, message: str
) -> None:
    name_file(starting, content)
    with pytest.raises(UserError, match=message) as problem:
        pack_weights(starting.plan().pretrained["mine"])
    assert "weights_only" not in str(problem.value)


def test_a_damaged_file_is_told_in_a_sentence(starting: Project) -> None:
    name_file(starting, {})
    FILE.write_bytes(b"no weights")
    starting.set("pretrained.mine.sha256", file_sha256(FILE))
    with pytest.raises(UserError, match=r"mine.pt: holds no state dict: Weights only load failed. Save only the state"):
        pack_weights(starting.plan().pretrained["mine"])


def test_weights_of_another_net_are_told_by_the_names_that_differ(starting: Project) -> None:
    starting.content["networks"] |= {
        "deeper": {"architecture": "cifar_resnet", "depth": 14, "width": 4},
        "wider": {"architecture": "cifar_resnet", "depth": 8, "width": 8},
    }
    starting.write()

    def check(network: str, message: str) -> None:
        name_file(starting, a_net(starting, network).state_dict())
        with pytest.raises(UserError, match=rf"mine.pt: {message}.*not weights of network 'net'"):
            pack_weights(starting.plan().pretrained["mine"])

    check("deeper", r"it has 36 that do not belong there, such as section1.1.conv1.weight, ")
    check("wider", r"stem.2.weight should have shape \(4,\), but has \(8,\)")
    name_file(starting, {"conv1.weight": torch.zeros(3)})
    with pytest.raises(UserError, match=r"it lacks \d+ of \d+ tensors, such as stem.0.weight, .* and it has 1 that do"):
        pack_weights(starting.plan().pretrained["mine"])


def test_a_file_that_is_not_there_is_named_with_the_variable(starting: Project) -> None:
    name_file(starting, {}, weights="/nowhere/x.pth")
    with pytest.raises(UserError, match=r"weights = '/nowhere/x.pth': no such file. Name .* or set FSPKD_WEIGHTS_MINE"):
        pack_weights(starting.plan().pretrained["mine"])
    elsewhere = starting.plan({"FSPKD_WEIGHTS_MINE": "/nowhere/y.pth"}).pretrained["mine"]
    with pytest.raises(UserError, match=r"FSPKD_WEIGHTS_MINE = '/nowhere/y.pth': no such file"):
        pack_weights(elsewhere)
    starting.content["networks"]["net"] = {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 4}
    starting.set("pretrained.mine.weights", "x.ckpt")
    with pytest.raises(UserError, match=r"'x.ckpt': torchvision has no .* ends in .pt or .pth or .bin; or set FSPKD_W"):
        pack_weights(starting.plan().pretrained["mine"])


@pytest.mark.parametrize(
    ("weights", "model"),
    [
        ("EfficientNet_V2_L_Weights.IMAGENET1K_V1", "efficientnet_v2_l"),
        ("GoogLeNet_Weights.IMAGENET1K_V1", "googlenet"),
        ("FasterRCNN_ResNet50_FPN_Weights.COCO_V1", "resnet50"),
    ],
)
def test_weights_for_images_that_are_normalised_otherwise_are_refused(
    starting: Project, weights: str, model: str
) -> None:
    """Refused before anything is downloaded."""
    starting.content["networks"]["net"] = {"architecture": "torchvision", "model": model}
    name_file(starting, {}, weights=weights)
    with pytest.raises(
        UserError, match=rf"mine.weights = '{weights}': were trained on images .* normalised differently"
    ):
        pack_weights(starting.plan().pretrained["mine"])


def test_where_the_file_lies_renames_nothing(starting: Project) -> None:
    name_file(starting, a_net(starting).state_dict())
    before = starting.plan().net("teacher/1").id
    FILE.rename("other.pth")
    starting.set("pretrained.mine.weights", "other.pth")
    assert starting.plan().net("teacher/1").id == before


def test_torchvision_has_no_weights_for_these_nets(starting: Project) -> None:
    name_file(starting, a_net(starting).state_dict(), weights="ResNet34_Weights.IMAGENET1K_V1")
    with pytest.raises(
        UserError, match=r"mine.network = 'net': is a cifar_resnet, .*, or as weights a file that ends in"
    ):
        starting.plan()
