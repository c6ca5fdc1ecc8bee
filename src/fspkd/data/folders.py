"""Images in folders and archives: {train,test}/<class>/*, and CUB-200-2011's own layout."""

import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TypeVar, cast

import numpy as np
from PIL import Image

from fspkd.data.packed import SPLITS, PackedData
from fspkd.errors import UserError, is_of_the_machine

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
MOST_PIXELS = 50_000_000  # of an image: 150 MB once decoded
Image.MAX_IMAGE_PIXELS = None  # _decode checks the size itself
Member = TypeVar("Member", zipfile.ZipInfo, tarfile.TarInfo)
# Pixels only: others run programs, or refer to other files.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
CUB200_FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt")


def is_archive(path: Path) -> bool:
    """Whether a path is a file named as a tar or zip."""
    return path.is_file() and path.name.endswith(ARCHIVES)


@contextmanager
def unpacked(archive: Path, where: str) -> Iterator[Path]:
    """The content of a tar or zip in a temporary folder; raises UserError if it is damaged, or too large for the disk.

    Errors about a file in that folder become errors about that member of the archive.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            if archive.suffix == ".zip":
                with zipfile.ZipFile(archive) as file:
                    for member in _fitting(((m, m.file_size) for m in file.infolist()), folder):
                        file.extract(member, folder)
            else:
                with tarfile.open(archive) as file:
                    for member in _fitting(((m, m.size) for m in file), folder):
                        file.extract(member, folder, filter="data")
                    _read_to_end(file)
        # RuntimeError: encrypted; NotImplementedError: a compression method that Python lacks
        except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, OSError, EOFError, ValueError,
                RuntimeError, NotImplementedError) as error:  # fmt: skip
            # A member below another that is a file, or in the place of a folder, is the archive's fault.
            if is_of_the_machine(error) and not isinstance(error, NotADirectoryError | IsADirectoryError):
                raise
            raise UserError(f"{where}: this archive cannot be unpacked: {error}. Fetch or make it again.") from None
        try:
            yield Path(folder)
        except UserError as error:
            raise UserError(
                str(error).replace(f"{folder}{os.sep}", f"{archive}: ").replace(folder, str(archive))
            ) from None


def _read_to_end(file: tarfile.TarFile) -> None:
    """Raise EOFError after the last member of a tar if more should follow, which tarfile takes for its end.

    What follows is read, since a compressed file has its checksum there; decompression raises errors of its own.
    """
    content = cast(IO[bytes], file.fileobj)
    content.seek(file.offset)
    if content.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise EOFError("it is damaged, or cut off")
    while content.read(1 << 20):
        pass


def _fitting(members: Iterable[tuple[Member, int]], folder: str) -> Iterator[Member]:
    """The members of an archive, given with their sizes in bytes; raises OSError before one that the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    for member, size in members:
        free -= size
        if free < 0:
            raise OSError(
                f"its files need more space than is free in {tempfile.gettempdir()}; set TMPDIR to use another folder"
            )
        yield member


def has_splits(folder: Path) -> bool:
    """Whether a folder holds train/ and test/."""
    return all((folder / split).is_dir() for split in SPLITS)


def find_splits(root: Path, where: str) -> Path | None:
    """The folder that holds train/ and test/: root, or a folder inside it, as archives often have.

    Raises UserError if there are several inside it.
    """
    if has_splits(root) or not root.is_dir():
        return root if has_splits(root) else None
    found = sorted(folder for folder in root.iterdir() if has_splits(folder) and not _is_hidden(folder))
    if len(found) > 1:
        raise UserError(f"{where}: {' and '.join(map(str, found))} both hold train/ and test/. Name one of them.")
    return found[0] if found else None


def _is_hidden(path: Path) -> bool:
    """Whether tools keep something of their own there, as in .ipynb_checkpoints."""
    return path.name.startswith(".")


def is_text(name: str) -> bool:
    """Whether a file's name can be written in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_image_folder(path: Path, size: int | None, where: str) -> PackedData:
    """Read {train,test}/<class>/* from a folder, tar or zip; grey only if every image is grey.

    `size` resizes every image to size x size; without it all must have one size. `where` names the setting in
    errors. Raises UserError for a missing folder, classes that differ, a damaged image, mixed sizes.
    """
    if is_archive(path):
        with unpacked(path, where) as folder:
            return replace(read_image_folder(folder, size, where), source=f"image folder {path}")
    root = find_splits(path, where)
    if root is None:
        raise UserError(
            f"{where}: no such folder, or it holds no train/ and test/. It must hold {{train,test}}/<class>/*."
        )
    classes = {
        split: {p.name for p in (root / split).iterdir() if p.is_dir() and not _is_hidden(p)} for split in SPLITS
    }
    if classes["train"] != classes["test"]:
        only = sorted(classes["train"] ^ classes["test"])
        owner = "train" if only[0] in classes["train"] else "test"
        raise UserError(
            f"{where}: class folder {only[0]!r} is in {owner}/ only. Both splits need the same class folders: add it to the "
            f"other, or remove {root / owner / only[0]}."
        )
    names = sorted(classes["train"])
    if not names:
        raise UserError(f"{where}: {root / 'train'} holds no class folders. It must hold {{train,test}}/<class>/*.")
    if unreadable := next((name for name in names if not is_text(name)), None):
        raise UserError(
            f"{where}: class folder {unreadable!r} in {root}: its name is not in UTF-8, as files with results are. Rename it."
        )
    files = {
        split: [(file, label) for label, name in enumerate(names) for file in _files(root / split / name)]
        for split in SPLITS
    }
    for split in SPLITS:
        empty = sorted(set(range(len(names))) - {label for _, label in files[split]})
        if empty:
            raise UserError(f"{where}: {root / split / names[empty[0]]} holds no image. Add some, or remove the class.")
    labels = {split: np.array([label for _, label in files[split]]) for split in SPLITS}
    paths = {split: [file for file, _ in files[split]] for split in SPLITS}
    return PackedData(_read_images(paths, size, False, where), labels, names, f"image folder {root}")


def _files(folder: Path) -> list[Path]:
    """The files of a class."""
    return sorted(file for file in folder.iterdir() if not (_is_hidden(file) and file.is_dir()))


def read_cub200(path: Path, size: int, where: str) -> PackedData:
    """Read CUB-200-2011's layout from a folder or archive: images/, and the lists of CUB200_FILES.

    The shorter side of every image is resized to `size`, and the square in the middle is kept. Raises UserError for a
    list that is missing or does not match the others, and for a damaged image.
    """
    if is_archive(path):
        with unpacked(path, where) as folder:
            return replace(read_cub200(folder, size, where), source=f"CUB-200-2011 at {path}")
    folders = [path, *sorted(p for p in path.iterdir() if p.is_dir())] if path.is_dir() else []
    root = next((folder for folder in folders if (folder / "images").is_dir()), None)
    if root is None:
        raise UserError(f"{where}: holds no images/. It must be CUB_200_2011, or a folder or archive that holds it.")
    files, labels, training = (_read_cub200_list(root / name, where) for name in CUB200_FILES)
    for name, other in zip(CUB200_FILES[1:], (labels, training), strict=True):
        if files.keys() != other.keys():
            missing = sorted(files.keys() ^ other.keys())[0]
            raise UserError(f"{where}: image {missing} is not in both images.txt and {name}. Fetch CUB-200-2011 again.")
    for name, values, known, what in (
        (CUB200_FILES[1], labels, str.isdecimal, "the number of a class"),
        (CUB200_FILES[2], training, ("0", "1").__contains__, "0 or 1"),
    ):
        if wrong := next((value for value in values.values() if not known(value)), None):
            raise UserError(f"{where}: {name}: {wrong!r} is not {what}. Fetch CUB-200-2011 again.")
    names = {label: Path(files[image]).parent.name for image, label in labels.items()}
    order = sorted(names, key=int)
    split_of = {image: "train" if flag == "1" else "test" for image, flag in training.items()}
    chosen = {split: [image for image in files if split_of[image] == split] for split in SPLITS}
    for split in SPLITS:
        if absent := set(order) - {labels[image] for image in chosen[split]}:
            raise UserError(f"{where}: train_test_split.txt: class {min(absent, key=int)} has no {split} image.")
    return PackedData(
        _read_images({s: [root / "images" / files[i] for i in chosen[s]] for s in SPLITS}, size, True, where),
        {s: np.array([order.index(labels[i]) for i in chosen[s]]) for s in SPLITS},
        [names[label] for label in order],
        f"CUB-200-2011 at {path}",
    )


def _read_cub200_list(file: Path, where: str) -> dict[str, str]:
    """A list's second column by its first, the image number."""
    try:
        return dict(line.split() for line in file.read_text().splitlines() if line.strip())
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        problem = (
            error.strerror if isinstance(error, OSError) else "not two columns: the number of an image, and a value"
        )
        raise UserError(f"{where}: {file}: {problem}. Fetch CUB-200-2011 again.") from None


def _read_images(
    files: Mapping[str, Sequence[Path]], size: int | None, square: bool, where: str
) -> dict[str, np.ndarray]:
    """The images (N, H, W, C) uint8 of both splits; grey only if every image is grey."""
    everything = [file for split in SPLITS for file in files[split]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(lambda file: _decode(file, size, square), everything))
    for file, image in zip(everything, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise UserError(
                f"{where}: images of mixed size: {everything[0]} has {_size(images[0])} pixels, {file} has {_size(image)}. "
                f"Give the data set a 'size' to resize to, such as size: 32."
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2) for image in images]
    else:
        images = [image[:, :, None] for image in images]
    cut = len(files["train"])
    return {"train": np.stack(images[:cut]), "test": np.stack(images[cut:])}


def _size(image: np.ndarray) -> str:
    return _size_of(image.shape[1::-1])


def _size_of(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _decode(file: Path, size: int | None, square: bool) -> np.ndarray:
    """One image, (H, W) if it is grey and (H, W, 3) otherwise, uint8; `square`: cropped to the middle, not squeezed."""
    if file.is_dir():
        raise UserError(
            f"{file}: is a folder, where an image should be: {{train,test}}/<class>/* are the images. Move its images up."
        )
    if file.exists() and not file.is_file():  # opening a FIFO would wait for its writer
        raise UserError(f"{file}: is not a file. Replace or remove it.")
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(
                    f"{file}: has {_size_of(image.size)} pixels, more than {MOST_PIXELS:,} in all. Replace or remove it."
                )
            if (stored := _with_more_than_8_bits(image)) is not None:
                raise UserError(
                    f"{file}: has {stored} pixels, with more than 8 bits. Convert the images to 8 bits per channel."
                )
            image = image.convert("L" if image.mode in ("1", "L") else "RGB")
            if square:
                edge = min(image.size)
                left, top = ((side - edge) // 2 for side in image.size)
                image = image.crop((left, top, left + edge, top + edge))
            return resize(image, size)
    except (OSError, SyntaxError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        raise UserError(f"{file}: cannot be read as an image: {error}. Replace or remove it.") from None


def _with_more_than_8_bits(image: Image.Image) -> str | None:
    """The mode of an opened image's pixels in its file if a channel has more than 8 bits, else None.

    Of colours with 16, Pillow would keep the higher byte alone.
    """
    stored = (tile[-1][0] if isinstance(tile[-1], tuple) else tile[-1] for tile in getattr(image, "tile", ()))
    wide = (str(mode) for mode in stored if ";16" in str(mode) and mode != "BGR;16")  # that one has 16 bits in all
    return next(wide, image.mode if image.mode[0] in "IF" else None)


def resize(image: Image.Image, size: int | None) -> np.ndarray:
    """An image as an array, of size x size pixels if `size` is given."""
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)
