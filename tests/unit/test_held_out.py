"""Images held out, or set aside for validation."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY, Project
from image_folders import folder, make_folder, read_source
from PIL import Image

from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.errors import UserError


def contents(data: PackedData, *splits: str) -> list[tuple[bytes, int]]:
    """All images of some splits with their labels, sorted, so that only the set matters."""
    return sorted((i.tobytes(), n) for s in splits for i, n in zip(data.images[s], data.labels[s], strict=True))


def test_held_out_images_and_those_left_are_the_training_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    whole, held = (read_source(folder(root, **settings)) for settings in ({}, {"hold_out": 4}))
    assert [len(held.labels[split]) for split in ("train", "test")] == [5, 4]
    assert contents(held, "train", "test") == contents(whole, "train")  # all different, none a test image
    assert held.sha256 == held.in_canonical_order().sha256
    assert held.classes == whole.classes


def test_what_is_held_out_follows_from_the_content_alone(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", per_class=10)
    before, fewer = (read_source(folder(root, hold_out=count)) for count in (20, 5))
    assert set(map(bytes, fewer.images["test"])) < set(map(bytes, before.images["test"]))
    for file in (root / "train" / "ant").iterdir():
        file.rename(file.with_name(f"{9 - int(file.stem)} renamed.png"))
    assert read_source(folder(root, hold_out=20)).sha256 == before.sha256
    content = read_source(folder(root)).sha256  # this is pinned, whatever is held out
    assert read_source(folder(root, hold_out=20, sha256=content)).sha256 == before.sha256


def test_packing_tells_the_pin_of_images_of_ones_own(project: Project, tmp_path: Path) -> None:
    """The pin is that of all images, whatever is held out; with it, nets stay the same wherever the images are."""
    root = make_folder(tmp_path / "images", size=(8, 8), per_class=10)
    project.set("data.images", {"name": "mine", "source": "imagefolder", "path": str(root), "hold_out": 5})
    packing = project.run("python", str(REPOSITORY / "scripts/pack.py"), str(project.plan().data["images"].path))
    assert packing.returncode == 0, packing.stderr
    pin = re.search(r"^sha256: ([0-9a-f]{64})$", packing.stdout, re.MULTILINE)[1]
    project.set("data.images.sha256", pin)
    assert read_source(project.plan().data["images"]).pinned
    project.set("data.images.path", str(root.rename(tmp_path / "elsewhere")))
    again = project.run("python", str(REPOSITORY / "scripts/pack.py"), str(project.plan().data["images"].path))
    assert (again.returncode, "sha256:" in again.stdout) == (0, False)
    # Where presets name different places for these images, one that names the right place is enough.
    child = {"extends": "tiny", "results": "results/child", "data": {"images": {"path": str(root)}}}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    for place, other in ((root, tmp_path / "elsewhere"), (tmp_path / "elsewhere", root)):
        assert not place.exists()
        packing = project.run("python", str(REPOSITORY / "scripts/pack.py"), str(project.plan().data["images"].path))
        assert packing.returncode == 0, packing.stderr
        other.rename(place)


def test_one_image_must_be_left_to_train_on(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    assert len(read_source(folder(root, hold_out=8)).labels["train"]) == 1
    with pytest.raises(UserError, match=r"data set 'mine': hold_out = 9: there are 9 training images"):
        read_source(folder(root, hold_out=9))


@pytest.mark.parametrize("held", [{}, {"hold_out": 10}])
def test_validation_images_are_the_same_part_of_every_class_and_not_trained_on(tmp_path: Path, held: dict) -> None:
    root = make_folder(tmp_path / "images", per_class=10)
    for i in range(4):
        Image.new("RGB", (6, 6), (i, 0, 0)).save(root / "train" / "cat" / f"more{i}.png")
    whole = read_source(folder(root, **held))
    data = read_source(folder(root, validation=12, **held))
    assert contents(data, "train", "validation") == contents(whole, "train")
    assert contents(data, "test") == contents(whole, "test")
    share = 12 * np.bincount(whole.labels["train"]) / len(whole.labels["train"])
    counts = np.bincount(data.labels["validation"])
    assert counts.sum() == 12
    assert (np.abs(counts - share) < 1).all()
    if not held:  # 10, 10 and 14 images: shares of 3.53, 3.53 and 4.94
        assert list(counts) == [4, 3, 5]


def test_validation_images_follow_from_the_content_alone_and_are_packed(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", per_class=10)
    before = read_source(folder(root, validation=6))
    for file in (root / "train" / "ant").iterdir():
        file.rename(file.with_name(f"{9 - int(file.stem)} renamed.png"))
    after = read_source(folder(root, validation=6))
    assert after.sha256 == before.sha256 != read_source(folder(root, validation=5)).sha256
    save_packed(after, tmp_path / "packed.npz")
    loaded = load_packed(tmp_path / "packed.npz")
    assert loaded.sha256 == after.sha256
    np.testing.assert_array_equal(loaded.images["validation"], after.images["validation"])
    with pytest.raises(UserError, match=r"data set 'mine': validation = 30: there are 30 training images"):
        read_source(folder(root, validation=30))


@pytest.mark.parametrize("pin", [{}, {"sha256": "0" * 64}])
def test_what_is_held_out_or_normalised_is_part_of_a_data_sets_identity(pin: dict) -> None:
    changes = [
        {},
        {"hold_out": 4},
        {"hold_out": 5},
        {"validation": 4},
        {"preprocess": {"method": "gcn_lcn"}},
        {"preprocess": {"method": "gcn_zca"}},
        {"preprocess": {"method": "gcn_zca", "bias": 0.2}},
    ]
    sets = [folder(Path("x"), **pin, **change) for change in changes]
    assert len({data.id for data in sets}) == len(changes)
    assert {data.whole.id for data in sets} == {sets[0].id}
    assert [data.undivided.id == sets[0].id for data in sets] == [True, False, False, True, False, False, False]
