"""Table 5's path: images in CUB-200-2011's layout, weights that were trained elsewhere, and mistakes in them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from conftest import Project, edit
from image_folders import read_source
from PIL import Image

from fspkd.config.data import Augment
from fspkd.data.packed import load_packed
from fspkd.data.pretrained import pack_weights
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.files import file_sha256
from fspkd.weights import load_weights

pytestmark = pytest.mark.usefixtures("not_followed")
BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
CUB200 = {"name": "cub200", "source": "cub200", "size": 36, "augment": {"crop": 32, "flip": True}}
ROWS = {
    "teacher": {"start": "imagenet", "stage2": {"method": "cross_entropy", "schedule": "short"}},
    "scratch": {"network": "student", "stage2": {"method": "cross_entropy", "schedule": "short"}},
    "fitnet": {
        "network": "student",
        "stage1": {"method": "hint", "teacher": "teacher/1", "schedule": "short", "sections": [2]},
        "stage2": {"method": "kd", "teacher": "teacher/1", "schedule": "short"},
    },
    "student": {
        "network": "student",
        "stage1": {"method": "fsp", "teacher": "teacher/1", "schedule": "short"},
        "stage2": {"method": "cross_entropy", "schedule": "short"},
    },
}


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CUB_200_2011 with two classes of four images, one of them grey; three per class are for training."""
    root = tmp_path / "CUB_200_2011"
    random = np.random.default_rng(0)
    lists = {"images.txt": [], "image_class_labels.txt": [], "train_test_split.txt": []}
    for number in range(8):
        label, index = divmod(number, 4)
        name = f"{BIRDS[label]}/{index}.jpg"
        (root / "images" / BIRDS[label]).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (50 + number, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels[..., 0] if number == 2 else pixels).save(root / "images" / name)
        lists["images.txt"].append(f"{number + 1} {name}")
        lists["image_class_labels.txt"].append(f"{number + 1} {label + 1}")
        lists["train_test_split.txt"].append(f"{number + 1} {int(index < 3)}")
    for name, lines in lists.items():
        (root / name).write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("FSPKD_DATA_CUB200", str(root))
    return root


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state dict of torchvision's ResNet-34."""
    torch.manual_seed(0)
    file = tmp_path / "resnet34.pth"
    torch.save(torchvision.models.resnet34().state_dict(), file)
    monkeypatch.setenv("FSPKD_WEIGHTS_IMAGENET", str(file))
    return file


@pytest.fixture
def transfer(workflow: Project, weights: Path) -> Project:
    """A preset of Table 5's nets."""
    workflow.content |= {
        "data": {"cub200": CUB200},
        "claims": None,
        "networks": {
            "teacher": {"architecture": "imagenet_resnet", "modules": [3, 4, 6, 3], "width": 64},
            "student": {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 64},
        },
        "pretrained": {
            "imagenet": {
                "weights": "ResNet34_Weights.IMAGENET1K_V1",
                "network": "teacher",
                "sha256": file_sha256(weights)[:8],
            }
        },
        "schedules": {"short": [{"until": 2, "rate": 1e-4}]},
        "training": {**workflow.content["training"], "batch_size": 4},
        "rows": {name: {"data": "cub200", "network": "teacher", "nets": 1, **row} for name, row in ROWS.items()},
        "tables": {"table5": {"title": "Birds", "rows": {name.title(): name for name in ROWS}}},
        "figures": {},
        "timings": {},
    }
    workflow.write()
    return workflow


def test_birds_from_pretrained_weights_to_a_table(transfer: Project, birds: Path, weights: Path) -> None:
    result = transfer.run("snakemake", "results/tiny/table5.csv", "--config", "members=2")
    assert result.returncode == 0, result.stderr
    table = pd.read_csv("results/tiny/table5.csv").set_index("row")
    assert list(table.columns) == ["accuracy", "iterations"]
    assert table["iterations"].to_dict() == {"Teacher": 2, "Scratch": 2, "Fitnet": 4, "Student": 4}
    plan = transfer.plan(dict(os.environ))
    packed = load_packed(plan.data["cub200"].path)
    assert packed.images["train"].shape == (6, 36, 36, 3)
    assert packed.images["test"].shape == (2, 36, 36, 3)
    assert packed.classes == list(BIRDS)

    start = plan.net("teacher/1").start
    state, published = load_weights(start.weights, start.id), torch.load(weights, weights_only=True)
    assert torch.equal(state["section3.5.conv2.weight"], published["layer3.5.conv2.weight"])
    trained = load_weights(plan.net("teacher/1").weights, plan.net("teacher/1").id)
    assert trained["linear.weight"].shape == (2, 512)
    near = (trained["section3.5.conv2.weight"] - state["section3.5.conv2.weight"]).norm()
    assert 0 < near < 0.05 * state["section3.5.conv2.weight"].norm()


def middle(file: Path) -> np.ndarray:
    """The square in the middle of an image, (36, 36, 3)."""
    with Image.open(file) as image:
        edge = min(image.size)
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        square = image.convert("RGB").crop((left, top, left + edge, top + edge))
        return np.asarray(square.resize((36, 36), Image.Resampling.BILINEAR))


def test_each_bird_has_the_label_of_its_folder_and_only_its_middle(project: Project, birds: Path) -> None:
    """Also a grey one, with three equal channels."""
    project.set("data.cub200", CUB200)
    packed = read_source(project.plan({"FSPKD_DATA_CUB200": str(birds)}).data["cub200"])
    for split, taken in (("train", "[012].jpg"), ("test", "3.jpg")):
        pairs = zip(packed.images[split], packed.labels[split], strict=True)
        found = {image.tobytes(): packed.classes[label] for image, label in pairs}
        assert found == {middle(file).tobytes(): file.parent.name for file in (birds / "images").glob(f"*/{taken}")}
    assert packed.classes == list(BIRDS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train_test_split.txt").unlink(), r"train_test_split.txt: No such file.*Fetch CUB"),
        (lambda root: (root / "images.txt").write_text("1 a b\n"), r"images.txt: not two columns"),
        (
            lambda root: (root / "image_class_labels.txt").write_text("1 1\n"),
            r"image 2 is not in both images.txt and image_class_labels.txt",
        ),
        (
            lambda root: (root / "train_test_split.txt").write_text("".join(f"{n} 1\n" for n in range(1, 9))),
            r"class 1 has no test image",
        ),
        (
            lambda root: edit(root / "image_class_labels.txt", "8 2", "8 two"),
            r"image_class_labels.txt: 'two' is not the number of a class",
        ),
        (lambda root: edit(root / "train_test_split.txt", "8 0", "8 2"), r"train_test_split.txt: '2' is not 0 or 1"),
        (
            lambda root: (root / "images" / BIRDS[1] / "3.jpg").write_bytes(
                (root / "images" / BIRDS[1] / "3.jpg").read_bytes()[:300]
            ),
            r"002.Laysan_Albatross/3.jpg: cannot be read as an image.*Replace or remove it",
        ),
        (
            lambda root: (root / "images" / BIRDS[0] / "0.jpg").unlink(),
            r"0.jpg: cannot be read as an image.*No such file",
        ),
        (lambda root: shutil.rmtree(root / "images"), r"FSPKD_DATA_CUB200 = .*holds no images/"),
    ],
)
def test_damaged_birds_are_named(project: Project, birds: Path, damage: object, message: str) -> None:
    damage(birds)
    project.set("data.cub200", CUB200)
    with pytest.raises(UserError, match=message):
        read_source(project.plan({"FSPKD_DATA_CUB200": str(birds)}).data["cub200"])


def test_an_archive_of_birds_is_the_same(project: Project, birds: Path) -> None:
    archive = shutil.make_archive("birds", "gztar", birds.parent, birds.name)
    project.set("data.cub200", CUB200)
    places = (str(birds), str(Path(archive).absolute()))
    one, other = (read_source(project.plan({"FSPKD_DATA_CUB200": place}).data["cub200"]) for place in places)
    assert one.sha256 == other.sha256


def test_other_weights_than_the_preset_pins_are_refused(transfer: Project, weights: Path) -> None:
    def check(message: str) -> None:
        pretrained = transfer.plan(dict(os.environ)).pretrained["imagenet"]
        with pytest.raises(UserError, match=message):
            pack_weights(pretrained)
        assert not pretrained.path.exists()

    pinned = transfer.content["pretrained"]["imagenet"]["sha256"]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    check(f"this is not the file that the preset pins: sha256 = {pinned}")
    torch.save(torchvision.models.resnet18().state_dict(), weights)
    transfer.set("pretrained.imagenet.sha256", file_sha256(weights)[:8])
    check(r"it lacks 80 of 216 tensors, such as section1.2.conv1.weight, .*: these are not weights of network")
    weights.write_bytes(b"no state dict")
    transfer.set("pretrained.imagenet.sha256", file_sha256(weights)[:8])
    check("holds no state dict")
    weights.unlink()
    check("FSPKD_WEIGHTS_IMAGENET")


def test_a_crop_larger_than_the_images_is_refused(project: Project, birds: Path) -> None:
    project.set("data.cub200", CUB200)
    packed = read_source(project.plan({"FSPKD_DATA_CUB200": str(birds)}).data["cub200"])
    with pytest.raises(UserError, match=r"CUB-200-2011 at .*: augment.crop = 40: the images have 36x36 pixels"):
        Images(packed, Augment(crop=40), torch.device("cpu"))


def test_test_images_are_cropped_in_the_middle_and_training_images_anywhere(project: Project, birds: Path) -> None:
    project.set("data.cub200", CUB200)
    data = project.plan({"FSPKD_DATA_CUB200": str(birds)}).data["cub200"]
    packed = read_source(data)
    images = Images(packed, data.settings.augment, torch.device("cpu"))
    np.testing.assert_array_equal(images.test.numpy(), packed.images["test"][:, 2:34, 2:34])
    assert (images.size, images.margins) == ((32, 32), (4, 4))
