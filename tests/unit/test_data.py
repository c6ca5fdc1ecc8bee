"""Sources of images, and packed files."""

import gzip
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_folders import folder, make_folder, read_source
from PIL import Image
from shortages import may_not_be_read, memory_left, no_more_files

from fspkd.config.data import Digits, Torchvision
from fspkd.data.packed import PackedData, load_packed, read_sha256, save_packed
from fspkd.data.sets import DataSet
from fspkd.errors import UserError


def test_folder_tar_and_zip_give_the_same_data(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    expected = read_source(folder(root))
    assert expected.classes == ["ant", "bee", "cat"]
    assert expected.images["train"].shape == (9, 6, 6, 3)
    for kind in ("tar", "zip", "gztar"):
        archive = shutil.make_archive(str(tmp_path / f"inside-{kind}"), kind, tmp_path, "images")
        assert read_source(folder(Path(archive))).sha256 == expected.sha256


def test_order_and_names_of_files_do_not_matter(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    before = read_source(folder(root)).sha256
    (root / "train" / "ant" / "0.png").rename(root / "train" / "ant" / "zzz.png")
    assert read_source(folder(root)).sha256 == before
    (root / "train" / "ant" / "zzz.png").rename(root / "train" / "bee" / "zzz.png")
    assert read_source(folder(root)).sha256 != before


def test_pixels_and_labels_stay_together(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    data = read_source(folder(root))
    for image, label in zip(data.images["test"], data.labels["test"], strict=True):
        files = (root / "test" / data.classes[label]).iterdir()
        assert any(np.array_equal(image, np.asarray(Image.open(file))) for file in files)


def test_grey_stays_grey_unless_one_image_has_colour(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images", mode="L")
    assert read_source(folder(root)).images["train"].shape == (9, 6, 6, 1)
    Image.new("RGB", (6, 6), "red").save(root / "test" / "ant" / "red.png")
    assert read_source(folder(root)).images["train"].shape == (9, 6, 6, 3)


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    Image.new("RGB", (9, 7)).save(root / "test" / "bee" / "large.png")
    with pytest.raises(UserError, match=r"images of mixed size: .*6x6.*bee/large.png has 9x7.*size: 32"):
        read_source(folder(root))
    assert read_source(folder(root, size=4)).images["test"].shape == (10, 4, 4, 3)


def test_class_that_only_one_split_has(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    (root / "test" / "dog").mkdir()
    with pytest.raises(UserError, match=r"path = .*class folder 'dog' is in test/ only"):
        read_source(folder(root))


def test_class_folder_whose_name_no_result_could_hold_is_refused(tmp_path: Path) -> None:
    """In Latin-1, as on old disks: not when a manifest is written, after the whole training."""
    root = make_folder(tmp_path / "images")
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / os.fsdecode(b"caf\xe9"))
    with pytest.raises(UserError, match=r"class folder 'caf\\udce9' in .*: its name is not in UTF-8.*Rename it"):
        read_source(folder(root))


def test_images_without_class_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.new("RGB", (6, 6)).save(tmp_path / split / "1.png")
    with pytest.raises(UserError, match=r"train holds no class folders"):
        read_source(folder(tmp_path))


def test_empty_class(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    shutil.rmtree(root / "train" / "cat")
    (root / "train" / "cat").mkdir()
    with pytest.raises(UserError, match=r"train/cat holds no image"):
        read_source(folder(root))


def test_truncated_image_is_named(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    file = root / "train" / "bee" / "1.png"
    file.write_bytes(file.read_bytes()[:70])
    with pytest.raises(UserError, match=r"train/bee/1.png: cannot be read as an image"):
        read_source(folder(root))


def test_pixels_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    Image.fromarray(np.full((6, 6), 30_000, np.uint16)).save(root / "train" / "bee" / "1.png")
    with pytest.raises(UserError, match=r"train/bee/1.png: has I;16B pixels.*Convert"):
        read_source(folder(root))


def test_colours_of_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    """Of which Pillow would keep the higher byte: nearly nothing of values of 12 bits."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 6, 6, 16, 2, 0, 0, 0))]  # 16 bits, RGB
    chunks += [(b"IDAT", zlib.compress(6 * (b"\0" + 18 * b"\x0f\xff"))), (b"IEND", b"")]
    png = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    root = make_folder(tmp_path / "images")
    (root / "train/bee/1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(UserError, match=r"train/bee/1.png: has RGB;16B pixels.*Convert"):
        read_source(folder(root))
    (root / "train/bee/1.png").unlink()
    Image.new("I;16", (6, 6)).save(root / "train/bee/1.tif")
    with pytest.raises(UserError, match=r"train/bee/1.tif: has I;16 pixels"):
        read_source(folder(root))


def test_images_one_folder_too_deep_are_told(tmp_path: Path) -> None:
    """As in Tiny ImageNet."""
    root = make_folder(tmp_path / "images")
    (root / "train/bee/images").mkdir()
    with pytest.raises(UserError, match=r"train/bee/images: is a folder, where an image should be"):
        read_source(folder(root))


def test_a_tar_that_is_cut_or_damaged_is_not_read_as_if_it_were_whole(tmp_path: Path) -> None:
    """Python ends quietly at a header that is cut or damaged, and the last image would be missing."""
    whole = Path(shutil.make_archive(str(tmp_path / "a"), "tar", make_folder(tmp_path / "s/images").parent, "images"))
    with tarfile.open(whole) as archive:
        *_, last = (member.offset for member in archive if member.isfile())
    content = whole.read_bytes()
    flipped = content[: last + 5] + bytes([content[last + 5] ^ 1]) + content[last + 6 :]
    for damaged in (content[:last], content[: last + 100], flipped):
        whole.write_bytes(damaged)
        (tmp_path / "a.tar.gz").write_bytes(gzip.compress(damaged))
        for archive in (whole, tmp_path / "a.tar.gz"):
            with pytest.raises(UserError, match="cannot be unpacked: it is damaged, or cut off"):
                read_source(folder(archive))
    compressed = bytearray(gzip.compress(content))
    compressed[-6] ^= 1  # of the checksum
    (tmp_path / "a.tar.gz").write_bytes(compressed)
    with pytest.raises(UserError, match="cannot be unpacked: CRC check failed"):
        read_source(folder(tmp_path / "a.tar.gz"))


def test_of_two_data_sets_in_a_folder_one_has_to_be_named(tmp_path: Path) -> None:
    for name in ("birds", "flowers", ".cache"):
        make_folder(tmp_path / "all" / name)
    with pytest.raises(UserError, match=r"all/birds and .*all/flowers both hold train/ and test/. Name one"):
        read_source(folder(tmp_path / "all"))
    shutil.rmtree(tmp_path / "all/flowers")
    for split in ("train", "test"):
        (tmp_path / "all/birds" / split / ".ipynb_checkpoints").mkdir()
        (tmp_path / "all/birds" / split / "ant/.ipynb_checkpoints").mkdir()
    packed = read_source(folder(tmp_path / "all"))
    assert (packed.classes, packed.source) == (["ant", "bee", "cat"], f"image folder {tmp_path / 'all/birds'}")


def test_missing_folder_and_damaged_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"path = '/no/where': no such folder"):
        read_source(folder(Path("/no/where")))
    for name, start in (("half.tar.gz", b"\x1f\x8b"), ("half.tar.xz", b"\xfd7zXZ\x00")):
        (tmp_path / name).write_bytes(start + b"half" * 10)
        with pytest.raises(UserError, match=rf"{name}': this archive cannot be unpacked"):
            read_source(folder(tmp_path / name))


def test_archive_that_the_disk_cannot_hold_is_refused_before_it_fills_it(tmp_path: Path) -> None:
    """Headers of a zip and a tar claim a file larger than the disk."""
    huge = shutil.disk_usage(tmp_path).total + 1
    with zipfile.ZipFile(tmp_path / "huge.zip", "w") as archive:
        archive.writestr("train/a/0.png", b"")
        archive.filelist[0].file_size = huge
    header = tarfile.TarInfo("train/a/0.png")
    header.size = huge
    (tmp_path / "huge.tar").write_bytes(header.tobuf() + bytes(10240))
    for name in ("huge.zip", "huge.tar"):
        with pytest.raises(
            UserError, match=rf"{name}': this archive cannot be unpacked: its files need more space than is"
        ):
            read_source(folder(tmp_path / name))


def test_encrypted_and_odd_zips_are_told(tmp_path: Path) -> None:
    plain = Path(shutil.make_archive(str(tmp_path / "plain"), "zip", make_folder(tmp_path / "images")))
    content = plain.read_bytes()
    local, central = content.index(b"train/ant/0.png") - 30, content.rindex(b"train/ant/0.png") - 46
    for name, offset, value, told in (("encrypted", 6, 1, "encrypted"), ("odd", 8, 77, "compression")):
        changed = bytearray(content)
        changed[local + offset] = changed[central + offset + 2] = value
        (tmp_path / f"{name}.zip").write_bytes(changed)
        with pytest.raises(UserError, match=rf"{name}.zip': this archive cannot be unpacked: .*{told}"):
            read_source(folder(tmp_path / f"{name}.zip"))
    for members in (("a", "a/b"), ("a/b", "a")):  # which no folder can hold
        with zipfile.ZipFile(tmp_path / "both.zip", "w") as both:
            for member in members:
                both.writestr(member, "x")
        with pytest.raises(UserError, match=r"both.zip': this archive cannot be unpacked: .*directory"):
            read_source(folder(tmp_path / "both.zip"))


def test_images_that_may_not_be_read_are_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should delete them."""
    monkeypatch.chdir(tmp_path)
    make_folder(Path("images"))
    shutil.make_archive("packed", "tar", "images")
    image = next(Path("images/train").glob("*/*"))
    for file, place in ((image, "images"), (Path("packed.tar"), "packed.tar")):
        with may_not_be_read(file), pytest.raises(PermissionError):
            read_source(folder(Path(place)))


def test_image_in_an_archive_is_named_by_archive_and_member(tmp_path: Path) -> None:
    """Its provenance is the archive too, so that it packs to the same bytes wherever it was unpacked."""
    root = make_folder(tmp_path / "images")
    archive = Path(shutil.make_archive(str(tmp_path / "good"), "zip", root))
    packed = read_source(folder(archive))
    assert packed.source == f"image folder {archive}"
    for name in ("first.npz", "second.npz"):
        save_packed(read_source(folder(archive)), tmp_path / name)
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "second.npz").read_bytes()
    (root / "train" / "bee" / "1.png").write_bytes(b"no image")
    archive = Path(shutil.make_archive(str(tmp_path / "bad"), "zip", root))
    with pytest.raises(UserError, match=rf"^{archive}: train/bee/1.png: cannot be read as an image"):
        read_source(folder(archive))


def test_location_of_this_machine_is_used_and_checked_against_the_pin(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "images")
    content = read_source(folder(root)).sha256
    pinned = Torchvision(name="cifar10", source="torchvision", dataset="CIFAR10", sha256=content)
    assert read_source(DataSet(pinned, str(root))).sha256 == content
    Image.new("RGB", (6, 6), "red").save(root / "test" / "ant" / "0.png")
    with pytest.raises(UserError, match=f"not the images that the preset pins: sha256 = {content}"):
        read_source(DataSet(pinned, str(root)))
    with pytest.raises(UserError, match="FSPKD_DATA_CIFAR10 = '/no/where': no such file or folder"):
        read_source(DataSet(pinned, "/no/where"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither train/ and test/ nor a complete CIFAR10"):
        read_source(DataSet(pinned, str(tmp_path / "empty")))


def test_digits_are_the_bundled_images() -> None:
    from sklearn.datasets import load_digits

    data = read_source(DataSet(Digits(name="digits", source="digits"), None))
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
    flipped = bytearray(content)
    flipped[content.rindex(b"facts.npy") - 46 + 8] ^= 1  # the flag that zip has for encrypted files
    (tmp_path / "flipped.npz").write_bytes(flipped)
    for read in (load_packed, read_sha256):
        with pytest.raises(UserError, match=r"flipped.npz: this packed data set is damaged"):
            read(tmp_path / "flipped.npz")
    (tmp_path / "half.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"half.npz: this packed data set is damaged"):
        load_packed(tmp_path / "half.npz")
    with pytest.raises(UserError, match=r"none.npz: no such packed data set"):
        load_packed(tmp_path / "none.npz")


def test_shortage_is_no_damage(tmp_path: Path) -> None:
    images = {split: np.zeros((1, 2**13, 2**13, 1), np.uint8) for split in ("train", "test")}  # 64 megabytes
    labels = {split: np.zeros(1, np.int64) for split in images}
    save_packed(PackedData(images, labels, ["one"], "made"), tmp_path / "large.npz")
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        load_packed(tmp_path / "large.npz")
    with memory_left(48), pytest.raises(MemoryError):
        load_packed(tmp_path / "large.npz")
    assert load_packed(tmp_path / "large.npz").classes == ["one"]
