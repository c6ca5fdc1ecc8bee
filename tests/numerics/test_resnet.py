"""The residual nets against their definition."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.transforms.functional import normalize

from fspkd.models.batch_norm import BatchNorm
from fspkd.models.cifar_resnet import CifarResNet, ResidualModule
from fspkd.models.imagenet_resnet import ImageNetResNet, from_torchvision
from fspkd.networks.residual import CifarNetwork, ImageNetNetwork


def build(depth: int, width: int = 16, classes: int = 10) -> CifarResNet:
    return CifarResNet(CifarNetwork(depth=depth, width=width), (3, 32, 32), classes, torch.Generator().manual_seed(0))


def parameters_by_definition(n: int, width: int, classes: int) -> int:
    """Convolutions without biases, scale and shift for each batch norm, a linear layer."""
    total = 2 * 3 + 3 * 9 * width + 2 * width
    channels_in = width
    for section in range(3):
        channels = width * 2**section
        for _ in range(n):
            total += 9 * channels_in * channels + 9 * channels * channels + 2 * 2 * channels
            channels_in = channels
    return total + 4 * width * classes + classes


@pytest.mark.parametrize(("depth", "width", "classes"), [(8, 16, 10), (26, 16, 10), (14, 64, 100), (32, 64, 100)])
def test_counts_are_what_the_definition_gives(depth: int, width: int, classes: int) -> None:
    net = build(depth, width, classes)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    assert sum(p.numel() for p in net.parameters()) == parameters_by_definition((depth - 2) // 6, width, classes)


def test_tap_shapes() -> None:
    taps = build(14).taps(torch.rand(2, 3, 32, 32), ("stem", "section1", "section2.first", "section2", "section3"))
    shapes = {name: tuple(tap.shape[1:]) for name, tap in taps.items()}
    assert shapes == {
        "stem": (16, 32, 32),
        "section1": (16, 32, 32),
        "section2.first": (32, 16, 16),
        "section2": (32, 16, 16),
        "section3": (64, 8, 8),
    }


def test_taps_compute_nothing_beyond_the_last() -> None:
    net = build(8)
    net.section3.register_forward_hook(lambda *_: pytest.fail("section 3 was computed"))
    net.taps(torch.rand(1, 3, 32, 32), ("section2",))


def test_shortcut_subsamples_and_fills_with_zeros() -> None:
    """With the second batch norm's scale at zero only the shortcut is left."""
    module = ResidualModule(4, 8, 2).eval()
    nn.init.zeros_(module.bn2.weight)
    x = torch.rand(2, 4, 6, 6)
    y = module(x)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert not y[:, 4:].any()


def test_module_adds_then_rectifies() -> None:
    module = ResidualModule(4, 4, 1).eval()
    x = torch.randn(2, 4, 6, 6)
    branch = BatchNorm.forward(module.bn2, module.conv2(F.relu(BatchNorm.forward(module.bn1, module.conv1(x)))))
    torch.testing.assert_close(module(x), F.relu(branch + x))


@pytest.mark.parametrize("mode", ["training", "evaluation", "frozen"])
def test_net_for_large_images_gives_what_torchvisions_gives(mode: str) -> None:
    """With the same weights; here the net itself normalises the images."""
    torch.manual_seed(0)
    theirs = resnet.ResNet(resnet.BasicBlock, [2, 1, 1, 1], num_classes=10).train(mode == "training")
    for norm in (module for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(tensor, 0.1, 0.9)
    network = ImageNetNetwork(modules=(2, 1, 1, 1), width=64)
    ours = ImageNetResNet(network, (3, 64, 64), 10, None).train(mode == "training")
    ours.load_state_dict(from_torchvision(theirs.state_dict()))
    ours = ours.frozen(torch.float32) if mode == "frozen" else ours
    names = {"maxpool": "stem", "layer1.0": "section1.first", **{f"layer{n}": f"section{n}" for n in (1, 2, 3, 4)}}
    expected = {}
    for layer, tap in names.items():
        theirs.get_submodule(layer).register_forward_hook(lambda *given, tap=tap: expected.update({tap: given[-1]}))
    x = torch.rand(4, 3, 64, 64)
    expected["logits"] = theirs(normalize(x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(ours.taps(x, tuple(expected)), expected, rtol=1e-4, atol=1e-4)


def test_initialisation_is_msra() -> None:
    net = build(26, 64)
    for conv in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        fan_in = conv.weight[0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.06)
    assert not net.linear.bias.any()
