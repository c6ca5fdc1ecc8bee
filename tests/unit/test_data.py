"""Sources of images, and packed files."""

import hashlib
import http.server
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fspkd.config.data import Digits, ImageFolder, Torchvision
from fspkd.data import sources
from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.data.sets import DataSet
from fspkd.errors import UserError


def make_folder(root: Path, mode: str = "RGB", size: tuple[int, int] = (6, 6), per_class: int = 3) -> Path:
    """A folder of random images of three classes."""
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("ant", "bee", "cat"):
            (root / split / name).mkdir(parents=True)
            for i in range(per_class):
                shape = size[::-1] if mode == "L" else (*size[::-1], 3)
                pixels = draw.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def folder(path: Path, **settings: object) -> DataSet:
    return DataSet(ImageFolder(name="mine", source="imagefolder", path=str(path), **settings), None)


def test_folder_tar_and_zip_give_the_same_data(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    expected = sources.read_source(folder(root))
    assert expected.classes == ["ant", "bee", "cat"]
    assert expected.images["train"].shape == (9, 6, 6, 3)
    for kind in ("tar", "zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / f"inside-{kind}"), kind, tmp_path, "images")
        assert sources.read_source(folder(Path(archive))).sha256 == expected.sha256


def test_order_and_names_of_files_do_not_matter(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    before = sources.read_source(folder(root)).sha256
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "zzz.png")
    assert sources.read_source(folder(root)).sha256 == before
    (root / "train" / "ant" / "zzz.png").rename(root / "train" / "bee" / "zzz.png")
    assert sources.read_source(folder(root)).sha256 != before


def test_pixels_and_labels_stay_together(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    data = sources.read_source(folder(root))
    for image, label in zip(data.images["test"], data.labels["test"], strict=True):
        files = (root / "test" / data.classes[label]).iterdir()
        assert any(np.array_equal(image, np.asarray(Image.open(file))) for file in files)


def test_grey_stays_grey_unless_one_image_has_colour(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", mode="L")
    assert sources.read_source(folder(root)).images["train"].shape == (9, 6, 6, 1)
    Image.new("RGB", (6, 6), "red").save(root / "test" / "ant" / "red.png")
    assert sources.read_source(folder(root)).images["train"].shape == (9, 6, 6, 3)


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    Image.new("RGB", (9, 7)).save(root / "test" / "bee" / "large.png")
    with pytest.raises(UserError, match=r"images of mixed size: .*6x6.*bee/large.png has 9x7.*size: 32"):
        sources.read_source(folder(root))
    assert sources.read_source(folder(root, size=4)).images["test"].shape == (10, 4, 4, 3)


def test_class_that_only_one_split_has(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    (root / "test" / "dog").mkdir()
    with pytest.raises(UserError, match=r"path = .*class folder 'dog' is in test/ only"):
        sources.read_source(folder(root))


def test_images_without_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (6, 6)).save(tmp_path / split / "1.png")
    with pytest.raises(UserError, match=r"train holds no class folders"):
        sources.read_source(folder(tmp_path))


def test_empty_class(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    shutil.rmtree(root / "train" / "cat")
    (root / "train" / "cat").mkdir()
    with pytest.raises(UserError, match=r"train/cat holds no image"):
        sources.read_source(folder(root))


def test_truncated_image_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    file = root / "train" / "bee" / "1.png"
    file.write_bytes(file.read_bytes()[:70])
    with pytest.raises(UserError, match=r"train/bee/1.png: not a whole image"):
        sources.read_source(folder(root))


def test_pixels_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    Image.fromarray(np.full((6, 6), 30_000, np.uint16)).save(root / "train" / "bee" / "1.png")
    with pytest.raises(UserError, match=r"train/bee/1.png: has I;16 pixels.*Convert"):
        sources.read_source(folder(root))


def test_missing_folder_and_damaged_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"path = '/no/where': no such folder"):
        sources.read_source(folder(Path("/no/where")))
    for name, start in (("half.tar.gz", b"\x1f\x8b"), ("half.tar.xz", b"\xfd7zXZ\x00")):
        (tmp_path / name).write_bytes(start + b"half" * 10)
        with pytest.raises(UserError, match=rf"{name}': this archive cannot be unpacked"):
            sources.read_source(folder(tmp_path / name))


def test_what_is_no_file_among_the_images_is_not_waited_for(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    os.mkfifo(root / "train" / "bee" / "pipe.png")
    with pytest.raises(UserError, match=r"train/bee/pipe.png: is not a file"):
        sources.read_source(folder(root))


def test_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    Image.new("L", (20_000, 20_000)).save(root / "train" / "bee" / "huge.png")
    with pytest.raises(UserError, match=r"train/bee/huge.png: has 20000x20000 pixels, more than 50,000,000"):
        sources.read_source(folder(root))


def test_archive_that_the_disk_cannot_hold_is_refused_before_it_fills_it(tmp_path: Path) -> None:
    """Its files are zeros that take next to nothing in the archive: as zip and as tar."""
    huge = shutil.disk_usage(tmp_path).total + 1
    with zipfile.ZipFile(tmp_path / "huge.zip", "w") as archive:
        archive.writestr("train/a/0.png", b"")
        archive.filelist[0].file_size = huge
    header = tarfile.TarInfo("train/a/0.png")
    header.size = huge
    (tmp_path / "huge.tar").write_bytes(header.tobuf() + bytes(10240))
    for name in ("huge.zip", "huge.tar"):
        with pytest.raises(
            UserError, match=rf"{name}': this archive cannot be unpacked: its files are larger than what is"
        ):
            sources.read_source(folder(tmp_path / name))


def test_encrypted_and_odd_zips_are_told(tmp_path: Path) -> None:
    plain = Path(shutil.make_archive(str(tmp_path / "plain"), "zip", make_folder(tmp_path / "images")))
    content = plain.read_bytes()
    local, central = content.index(b"train/ant/0.png") - 30, content.rindex(b"train/ant/0.png") - 46
    for name, offset, value, told in (("encrypted", 6, 1, "encrypted"), ("odd", 8, 77, "compression")):
        changed = bytearray(content)
        changed[local + offset] = changed[central + offset + 2] = value
        (tmp_path / f"{name}.zip").write_bytes(changed)
        with pytest.raises(UserError, match=rf"{name}.zip': this archive cannot be unpacked: .*{told}"):
            sources.read_source(folder(tmp_path / f"{name}.zip"))


def test_image_in_an_archive_is_named_by_archive_and_member(tmp_path: Path) -> None:
    """And its provenance is the archive, so that it packs to the same bytes wherever it was unpacked."""
    root = make_folder(tmp_path / "images")
    archive = Path(shutil.make_archive(str(tmp_path / "good"), "zip", root))
    packed = sources.read_source(folder(archive))
    assert packed.source == f"image folder {archive}"
    for name in ("first.npz", "second.npz"):
        save_packed(sources.read_source(folder(archive)), tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    (root / "train" / "bee" / "1.png").write_bytes(b"no image")
    archive = Path(shutil.make_archive(str(tmp_path / "bad"), "zip", root))
    with pytest.raises(UserError, match=rf"^{archive}: train/bee/1.png: not a whole image"):
        sources.read_source(folder(archive))


def test_location_of_this_machine_is_used_and_checked_against_the_pin(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    content = sources.read_source(folder(root)).sha256
    pinned = Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10", sha256=content)
    assert sources.read_source(DataSet(pinned, str(root))).sha256 == content
    Image.new("RGB", (6, 6), "red").save(root / "test" / "ant" / "0.png")
    with pytest.raises(UserError, match=f"not the images that the preset pins: sha256 = {content}"):
        sources.read_source(DataSet(pinned, str(root)))
    with pytest.raises(UserError, match="FSPKD_DATA_CIFAR10 = '/no/where': no such file or folder"):
        sources.read_source(DataSet(pinned, "/no/where"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither train/ and test/ nor CIFAR10"):
        sources.read_source(DataSet(pinned, str(tmp_path / "empty")))


def test_digits_are_the_bundled_images() -> None:
    from sklearn.datasets import load_digits

    data = sources.read_source(DataSet(Digits(name="digits", source="digits"), None))
    everything = np.concatenate([data.images["train"], data.images["test"]])[..., 0].reshape(-1, 64)
    original = np.round(load_digits().data * 255 / 16)
    assert sorted(map(bytes, everything)) == sorted(map(bytes, original.astype(np.uint8)))
    assert [len(data.labels[s]) for s in ("train", "test")] == [1347, 450]
    assert np.bincount(data.labels["test"]).min() >= 43


def test_packed_file_is_the_same_again_and_a_flipped_bit_is_noticed(packed_digits: Path, tmp_path: Path) -> None:
    data = load_packed(packed_digits)
    save_packed(data, tmp_path / "again.npz")
    content = bytearray(packed_digits.read_bytes())
    assert (tmp_path / "again.npz").read_bytes() == content
    for position in (len(content) // 3, len(content) // 2, len(content) - 5000):
        flipped = bytearray(content)
        flipped[position] ^= 4
        (tmp_path / "flipped.npz").write_bytes(flipped)
        with pytest.raises(UserError, match=r"flipped.npz: this packed data set is damaged. Delete it"):
            load_packed(tmp_path / "flipped.npz")
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"half.npz: this packed data set is damaged"):
        load_packed(tmp_path / "half.npz")
    with pytest.raises(UserError, match=r"none.npz: no such packed data set"):
        load_packed(tmp_path / "none.npz")


@pytest.fixture
def cifar_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """A web server with an archive in CIFAR-10's own layout, which torchvision takes for the original."""
    from torchvision.datasets import CIFAR10

    draw, buffer, sums = np.random.default_rng(0), io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:

        def add(name: str, content: dict) -> None:
            data = pickle.dumps(content)
            sums[name] = hashlib.md5(data).hexdigest()
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        for name, count in (("data_batch_1", 20), ("test_batch", 10)):
            pixels = draw.integers(0, 256, (count, 3072), dtype=np.uint8)
            add(name, {"data": pixels, "labels": [i % 10 for i in range(count)]})
        add("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    content = buffer.getvalue()
    state = {"requests": 0, "failures": 2}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["requests"] += 1
            broken = state["requests"] <= state["failures"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if broken else content)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    monkeypatch.setattr(sources, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(sources.time, "sleep", lambda seconds: None)
    yield state
    server.shutdown()


def test_broken_download_is_retried_and_a_whole_one_never_repeated(cifar_server: dict) -> None:
    data = DataSet(Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10"), None)
    packed = sources.read_source(data)
    assert packed.images["train"].shape == (20, 32, 32, 3)
    assert packed.classes[3] == "class 3"
    requests = cifar_server["requests"]
    assert requests > cifar_server["failures"]
    assert sources.read_source(data).sha256 == packed.sha256
    assert cifar_server["requests"] == requests
    # The same folder as torchvision left it serves a machine without a network.
    elsewhere = DataSet(data.settings, str(sources.DOWNLOADS))
    assert sources.read_source(elsewhere).sha256 == packed.sha256
    assert cifar_server["requests"] == requests


def test_download_that_never_works_ends_with_advice(cifar_server: dict) -> None:
    cifar_server["failures"] = 1000
    with pytest.raises(UserError, match=r"the download failed 4 times.*FSPKD_DATA_CIFAR10"):
        sources.read_source(DataSet(Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10"), None))


def test_mnist_and_svhn_as_torchvision_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the data sets' own formats: grey 28x28, and colour with the image index last."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    draw = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    digits = draw.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, 20, 28, 28) + digits.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2i", 0x801, 20) + bytes(i % 10 for i in range(20))
        )
    mnist = Torchvision(name="mnist", source="torchvision", dataset="MNIST")
    data = sources.read_source(DataSet(mnist, str(tmp_path)))
    assert data.images["train"].shape == (20, 28, 28, 1)
    assert sorted(map(bytes, data.images["test"])) == sorted(map(bytes, digits))
    assert data.classes == [str(i) for i in range(10)]

    house_numbers = draw.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    entries = {}
    for split in ("train", "test", "extra"):
        pixels = house_numbers ^ 255 if split == "extra" else house_numbers
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": np.arange(1, 21)[:, None] % 10 + 1})
        entries[split] = [
            "",
            f"{split}_32x32.mat",
            hashlib.md5((tmp_path / f"{split}_32x32.mat").read_bytes()).hexdigest(),
        ]
    monkeypatch.setattr(SVHN, "split_list", entries)
    data = sources.read_source(DataSet(Torchvision(name="svhn", source="torchvision", dataset="SVHN"), str(tmp_path)))
    originals = house_numbers.transpose(3, 0, 1, 2)
    assert sorted(map(bytes, data.images["train"])) == sorted(map(bytes, originals))
    assert set(data.labels["train"]) == set(range(10))  # the file writes 10 for 0
    smaller = Torchvision(name="svhn", source="torchvision", dataset="SVHN", size=16)
    assert sources.read_source(DataSet(smaller, str(tmp_path))).images["test"].shape == (20, 16, 16, 3)
    extra = DataSet(Torchvision(name="svhn", source="torchvision", dataset="SVHN", extra=True), str(tmp_path))
    data = sources.read_source(extra)
    assert sorted(map(bytes, data.images["train"])) == sorted(map(bytes, [*originals, *(originals ^ 255)]))
    assert (len(data.labels["train"]), len(data.labels["test"])) == (40, 20)
    make_folder(tmp_path / "images")
    with pytest.raises(UserError, match=r"FSPKD_DATA_SVHN = .*extra = True, and folders .* do not tell which"):
        sources.read_source(DataSet(extra.settings, str(tmp_path / "images")))


def contents(data: PackedData, *splits: str) -> list[tuple[bytes, int]]:
    """All images of some splits with their labels, in an order that depends on nothing else."""
    return sorted((i.tobytes(), n) for s in splits for i, n in zip(data.images[s], data.labels[s], strict=True))


def test_held_out_images_and_those_left_are_the_training_images(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    whole, held = (sources.read_source(folder(root, **settings)) for settings in ({}, {"hold_out": 4}))
    assert [len(held.labels[split]) for split in ("train", "test")] == [5, 4]
    assert contents(held, "train", "test") == contents(whole, "train")  # which are all different, and no test image
    assert held.sha256 == held.in_canonical_order().sha256
    assert held.classes == whole.classes


def test_what_is_held_out_follows_from_the_content_alone(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", per_class=10)
    before, fewer = (sources.read_source(folder(root, hold_out=count)) for count in (20, 5))
    assert set(map(bytes, fewer.images["test"])) < set(map(bytes, before.images["test"]))
    for file in (root / "train" / "ant").iterdir():
        file.rename(file.with_name(f"{9 - int(file.stem)} renamed.png"))
    assert sources.read_source(folder(root, hold_out=20)).sha256 == before.sha256
    content = sources.read_source(folder(root)).sha256  # which is what is pinned, whatever is held out
    assert sources.read_source(folder(root, hold_out=20, sha256=content)).sha256 == before.sha256


def test_one_image_must_be_left_to_train_on(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    assert len(sources.read_source(folder(root, hold_out=8)).labels["train"]) == 1
    with pytest.raises(UserError, match=r"data set 'mine': hold_out = 9: there are 9 training images"):
        sources.read_source(folder(root, hold_out=9))


@pytest.mark.parametrize("held", [{}, {"hold_out": 10}])
def test_validation_images_are_the_same_part_of_every_class_and_not_trained_on(tmp_path: Path, held: dict) -> None:
    root = make_folder(tmp_path / "images", per_class=10)
    for i in range(4):
        Image.new("RGB", (6, 6), (i, 0, 0)).save(root / "train" / "cat" / f"more{i}.png")
    whole = sources.read_source(folder(root, **held))
    data = sources.read_source(folder(root, validation=12, **held))
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
    before = sources.read_source(folder(root, validation=6))
    for file in (root / "train" / "ant").iterdir():
        file.rename(file.with_name(f"{9 - int(file.stem)} renamed.png"))
    after = sources.read_source(folder(root, validation=6))
    assert after.sha256 == before.sha256 != sources.read_source(folder(root, validation=5)).sha256
    save_packed(after, tmp_path / "packed.npz")
    loaded = load_packed(tmp_path / "packed.npz")
    assert loaded.sha256 == after.sha256
    np.testing.assert_array_equal(loaded.images["validation"], after.images["validation"])
    with pytest.raises(UserError, match=r"data set 'mine': validation = 30: there are 30 training images"):
        sources.read_source(folder(root, validation=30))


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
