"""Nets of torchvision: the same numbers as its own, features before any in-place change, and bit-identical training."""

import shutil

import pytest
import torch
from conftest import Project, die_at
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import StochasticDepth

from fspkd.distill.hint import Hint
from fspkd.draws import Draws
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.models.counts import counts
from fspkd.models.torchvision import TorchvisionNet
from fspkd.networks.torchvision import TorchvisionNetwork
from fspkd.train import loop

pytestmark = pytest.mark.usefixtures("not_followed")
RESNET, MOBILE = ({"architecture": "torchvision", "model": name} for name in ("resnet18", "mobilenet_v3_small"))
MEAN, DEVIATION = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def net_of(model: str, channels: int = 3) -> TorchvisionNet:
    network = TorchvisionNetwork(architecture="torchvision", model=model)
    return build(network, (channels, 64, 64), 10, torch.Generator().manual_seed(1))


def by_hooks(model: nn.Module, x: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
    """The outputs of modules of torchvision's own net, and its logits."""
    found = {}
    for name in layers:
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: output.clone()})
        )
    return {**found, "logits": model((x - MEAN) / DEVIATION)} | found


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("model", "layers"),
    [("resnet18", ("layer1.0.bn2", "layer2")), ("mobilenet_v2", ("features.3", "features.14.conv.3"))],
)
def test_logits_and_features_are_torchvisions(model: str, layers: tuple[str, ...], training: bool) -> None:
    """Also where the next operation works in place: a residual sum after layer1.0.bn2, a ReLU after a batch norm."""
    torch.manual_seed(1)
    theirs = get_model(model, weights=None, num_classes=10).train(training)
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ours = net_of(model).train(training)
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True))
    ours.randomise(Draws(1, "net"), lambda: torch.tensor([3]))
    for module in ours.modules():
        module.highest = 2**15 - 1  # a dropout's: it keeps everything
        module.scale = 1.0
    x = torch.rand(4, 3, 64, 64)
    expected = by_hooks(theirs, x, layers)
    found = ours.taps(x, (*layers, "logits"))
    assert list(found) == [*layers, "logits"]
    for name, features in expected.items():
        torch.testing.assert_close(found[name], features, rtol=1e-4, atol=1e-5)
    frozen = ours.frozen(torch.float32)
    ours.eval()
    assert torch.equal(frozen(x), ours(x))


def test_dropout_is_a_function_of_the_iteration() -> None:
    net, x = net_of("efficientnet_b0").train(), torch.rand(4, 3, 64, 64)
    at = {}
    for iteration in (1, 2, 1):
        net.randomise(Draws(7, "net"), lambda iteration=iteration: torch.tensor([iteration]))
        at.setdefault(iteration, []).append(net(x).detach())
    assert torch.equal(*at[1])
    assert not torch.equal(at[1][0], at[2][0])
    net.eval()
    assert torch.equal(net(x), net(x))


def test_dropout_drops_and_scales_what_torchvisions_does() -> None:
    """Elements, or whole images of a batch, independently of each other."""
    theirs, net = get_model("efficientnet_b0", weights=None).train(), net_of("efficientnet_b0").train()
    net.randomise(Draws(7, "net"), lambda: torch.tensor([1]))
    dropouts = {name: m for name, m in theirs.named_modules() if isinstance(m, nn.Dropout | StochasticDepth)}
    assert {type(module) for module in dropouts.values()} == {nn.Dropout, StochasticDepth}
    for name, module in dropouts.items():
        found, expected = (of(torch.ones(4096, 5)) for of in (net.model.get_submodule(name), module))
        torch.testing.assert_close(found.unique(), expected.unique())
        torch.testing.assert_close(found.mean(), torch.ones(()), rtol=0, atol=5 * (0.25 / 4096) ** 0.5)
        assert (found == found[:, :1]).all() == (expected == expected[:, :1]).all()


def test_grey_images_count_as_three_equal_channels() -> None:
    grey, colour = net_of("resnet18", channels=1).eval(), net_of("resnet18").eval()
    mean, deviation = (sum(values.flatten().tolist()) / 3 for values in (MEAN, DEVIATION))
    x = torch.rand(2, 1, 64, 64)
    same = (x - mean) / deviation * DEVIATION + MEAN
    torch.testing.assert_close(grey(x), colour(same), rtol=1e-4, atol=1e-5)


def test_sizes_and_layers_are_those_of_the_net() -> None:
    network = TorchvisionNetwork(architecture="torchvision", model="resnet50")
    assert (network.layer_count, network.name) == (50, "resnet50")
    net = net_of("resnet50").eval()
    for tap in ("relu", "layer1", "layer2.0.downsample", "layer3.2.conv1"):
        features = net.taps(torch.rand(1, 3, 64, 64), (tap,))[tap]
        assert features.shape == (1, network.channels(tap), *[network.size(tap, 64)] * 2)
        assert tap in network.maps
    assert len(net.parameters_to(("layer1",))) < len(net.parameters_to(("layer2",))) < len(list(net.parameters()))
    theirs = get_model("resnet50", weights=None)
    weights = sum(p.numel() for p in theirs.parameters() if p.dim() > 1)
    assert counts(network, (3, 224, 224), 1000)[:2] == (50, weights)
    assert (
        counts(TorchvisionNetwork(architecture="torchvision", model="mobilenet_v2"), (3, 224, 224), 1000).layers == 53
    )
    swin = TorchvisionNetwork(architecture="torchvision", model="swin_t")  # its channels come last, until the end
    assert "permute" in swin.maps
    assert "features.1" not in swin.maps


def test_a_regressor_ends_with_the_teachers_own_non_linearity() -> None:
    hint = Hint(method="hint", schedule="x", teacher="x/1", guided="features.1", hint="layer3")
    student, teacher = net_of("mobilenet_v3_small"), net_of("resnet18")
    ((name, regressor),) = hint.modules(Draws(1, "net"), student, teacher).items()
    assert name == "features/1"
    assert isinstance(regressor[1], nn.ReLU)
    x = torch.rand(2, 3, 64, 64)
    guided = hint.embed(student.taps(x, ("features.1",)), {name: regressor})["features.1"]
    assert guided.shape == teacher.taps(x, ("layer3",))["layer3"].shape
    linear = teacher.regressor("layer3.0.downsample", 8, (1, 1), None, torch.Generator())[1]
    assert isinstance(linear, nn.Identity)
    assert isinstance(student.regressor("features.12", 8, (1, 1), None, torch.Generator())[1], nn.Hardswish)


@pytest.fixture
def pupils(project: Project) -> Project:
    """A ResNet-18, and a MobileNet, with dropout, that it teaches."""
    project.set("networks", {"net": project.content["networks"]["net"], "big": {**RESNET}, "small": {**MOBILE}})
    project.set("data.images.size", 32)
    project.set("schedules.short", [{"until": 4, "rate": 1e-3}])
    shared = {"teacher": "teacher/1", "schedule": "short"}
    project.set(
        "rows",
        {
            "teacher": {
                "data": "images",
                "network": "big",
                "nets": 1,
                "stage2": {"method": "cross_entropy", "schedule": "short"},
            },
            "pupil": {
                "data": "images",
                "network": "small",
                "nets": 1,
                "stage1": {"method": "hint", **shared, "guided": "features.1", "hint": "layer3"},
                "stage2": {"method": "kd", **shared},
            },
        },
    )
    project.set("tables", {"table1": {"title": "Pupils", "rows": {"Teacher": "teacher", "Pupil": "pupil"}}})
    for key in ("figures", "timings", "claims"):
        project.set(key, ...)
    project.set("training.evaluate_every", 4)
    return project


def test_interrupted_and_resumed_ends_with_the_same_bits(pupils: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    pupils.pack()
    pupils.train("pupil/1")
    whole = pupils.checksums()
    assert len(whole) == 3
    for run in sorted(pupils.plan().runs.values(), key=lambda run: run.depth):
        shutil.rmtree(run.folder)
        with monkeypatch.context() as patch:
            die_at(2, patch)
            with pytest.raises(KeyboardInterrupt):
                loop.train([run], torch.device("cpu"), 1000)
        loop.train([run], torch.device("cpu"), 1000)
        assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 2]
    assert pupils.checksums() == whole


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "networks.small.model",
            "mobilenet",
            r"torchvision has no such classification net; did you mean 'mobilenet_v2'",
        ),
        ("networks.small.model", "fasterrcnn_resnet50_fpn", r"torchvision has no such classification net"),
        (
            "rows.pupil.stage1.guided",
            "features.99",
            r"'features.99': no feature map of mobilenet_v3_small; did you mean",
        ),
        ("rows.pupil.stage1.hint", "avgpool", r"hint = 'avgpool': no feature map of resnet18"),
        (
            "rows.pupil.stage1",
            {"method": "fsp", "teacher": "teacher/1", "schedule": "short"},
            r"compares the ends of sections, and mobilenet_v3_small has none. Give an imagenet_resnet",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(pupils: Project, key: str, value: object, message: str) -> None:
    pupils.plan()
    pupils.set(key, value)
    with pytest.raises(UserError, match=message):
        pupils.plan()


def test_images_that_a_net_cannot_compute_are_told(pupils: Project) -> None:
    pupils.set("networks.big.model", "vit_b_16")
    pupils.set("rows.pupil.stage1", ...)
    for run in pupils.plan().runs.values():
        with pytest.raises(UserError, match=r"vit_b_16 cannot compute them .*224.* Give the data set a 'size'"):
            run.check_size((32, 32))
