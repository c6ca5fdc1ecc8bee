"""Batches are a function of the iteration, and equal torchvision's for the same draws."""

import numpy as np
import pytest
import torch
from conftest import Project, images_of

from fspkd.config.data import Augment
from fspkd.data.packed import PackedData, load_packed
from fspkd.engine.augment import crop_and_flip
from fspkd.engine.batches import Batches, Images
from fspkd.train.nets import finished_net


def batch(batches: Batches, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = batches.make(batches.draw(iteration, 1))
    return batches.images.to_input(images[0]), labels[0]


def test_first_stages_of_one_teacher_see_the_same_batches_and_others_their_own(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("rows.student.stage1_shared", False)

    def batches() -> list[torch.Tensor]:
        return [Batches(images_of(net), net.stage1.spec).draw(0, 3) for net in project.plan().nets("student")]

    one, other = batches()
    assert torch.equal(one, other)
    project.set("rows.student.stage1.teacher", "teacher")
    one, other = batches()
    assert not torch.equal(one, other)


def test_batches_are_a_function_of_the_iteration(project: Project) -> None:
    run = project.plan().net("teacher/1")
    images = images_of(run)
    onwards = [batch(Batches(images, run.spec), i)[0] for i in (0, 1, 90, 91)]
    jumping = Batches(images, run.spec)
    for i, expected in reversed(list(zip((0, 1, 90, 91), onwards, strict=True))):
        assert torch.equal(batch(jumping, i)[0], expected)
    together, labels = jumping.make(jumping.draw(89, 3))
    assert torch.equal(images.to_input(together[1]), onwards[2])
    assert torch.equal(labels[2], batch(jumping, 91)[1])


def test_every_image_is_seen_once_an_epoch_whatever_the_batch(project: Project) -> None:
    run = project.plan().net("teacher/1")
    images = images_of(run)
    count = images.count
    batches = Batches(images, run.spec)
    size = run.spec.training.batch_size
    order = np.concatenate([batches.draw(i, 1)[0, :, 0] for i in range(2 * count // size + 1)])
    assert sorted(order[:count]) == sorted(order[count : 2 * count]) == list(range(count))
    assert list(order[:count]) != list(order[count : 2 * count])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_crop_and_flip_equal_torchvision_on_the_same_offsets(dtype: type) -> None:
    """Also for whitened images, which are used unchanged, padded with zeros."""
    from torchvision.transforms import functional as vision

    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(dtype)
    labels = np.arange(20) % 2
    data = PackedData({"train": pixels, "test": pixels}, {"train": labels, "test": labels}, ["a", "b"], "noise")
    images = Images(data, Augment(pad=4), torch.device("cpu"))
    index, offsets, flips = torch.randint(0, 20, (50,)), torch.randint(0, 9, (50, 2)), torch.rand(50) < 0.5
    ours = images.to_input(crop_and_flip(images.train, index, offsets, flips, images.size))
    for i in range(50):
        image = vision.pad(torch.from_numpy(pixels)[index[i]].permute(2, 0, 1), 4)
        image = vision.crop(image, *offsets[i].tolist(), 32, 32)
        image = vision.hflip(image) if flips[i] else image
        assert torch.equal(ours[i], vision.convert_image_dtype(image, torch.float32))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_are_the_float32_nets_on_plain_images(
    project: Project, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """They equal those of the finished net on the packed test images, only divided by 255."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project.set("training.precision", precision)
    project.train("teacher/1")
    run = project.plan().net("teacher/1")
    data = load_packed(run.data.path)
    net = finished_net(run, (1, 8, 8), 10).eval()
    x = torch.from_numpy(data.images["test"]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad(), np.load(run.folder.predictions) as file:
        torch.testing.assert_close(torch.from_numpy(file["logits"]), net(x), rtol=1e-4, atol=1e-4)
