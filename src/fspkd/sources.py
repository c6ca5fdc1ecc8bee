"""Where images come from: torchvision's data sets, a folder or an archive of images, scikit-learn's digits."""

import os
import tarfile
import tempfile
import time
import urllib.error
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from fspkd.data import SPLITS, PackedData
from fspkd.errors import UserError
from fspkd.plan import LOCATION_VARIABLE, DataSet

DOWNLOADS = Path("data/downloads")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
ATTEMPTS = 4


def read_source(data: DataSet) -> PackedData:
    """All images of a data set, in canonical order, from its own source or from the location set for this machine.

    Raises UserError where they are missing, damaged, of mixed size, or not those that the preset pins.
    """
    settings, location = data.settings, data.location
    if location is not None:
        variable = LOCATION_VARIABLE.format(name=settings.name.upper())
        where = f"{variable} = {location!r}"
        if not Path(location).exists():
            raise UserError(f"{where}: no such file or folder. Set it to where {settings.name}'s images lie.")
        if _is_archive(Path(location)) or _find_splits(Path(location)):
            packed = read_image_folder(Path(location), settings.size, where)
        elif settings.source == "torchvision":
            packed = _read_torchvision(settings.dataset, Path(location), settings.size, download=False)
        else:
            raise UserError(f"{where}: holds no train/ and test/ folders. Set it to a folder {{train,test}}/<class>/*.")
    elif settings.source == "imagefolder":
        where = f"data set {settings.name!r}: path = {settings.path!r}"
        packed = read_image_folder(Path(settings.path), settings.size, where)
    elif settings.source == "torchvision":
        packed = _read_torchvision(settings.dataset, DOWNLOADS, settings.size, download=True)
    else:
        packed = _read_digits(settings.size)
    packed = packed.in_canonical_order()
    if settings.sha256 not in (None, packed.sha256):
        raise UserError(
            f"data set {settings.name!r}, from {packed.source}: these are not the images that the preset pins: "
            f"sha256 = {settings.sha256}, and the images have {packed.sha256}. Use the original images, or, for other "
            f"images, a preset whose data set has another name and no sha256."
        )
    return packed


# --- image folders ----------------------------------------------------------------------------------------


def _is_archive(path: Path) -> bool:
    return path.is_file() and path.name.endswith(ARCHIVES)


def _find_splits(root: Path) -> Path | None:
    """The folder that holds train/ and test/: root, or a single folder inside it, as archives often have."""
    for folder in (root, *(sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else ())):
        if all((folder / split).is_dir() for split in SPLITS):
            return folder
    return None


def read_image_folder(path: Path, size: int | None, where: str) -> PackedData:
    """Read {train,test}/<class>/* from a folder, tar or zip; grey only where every image is grey.

    `size` resizes every image to size x size; without it all must be of one size. `where` names the setting in
    errors: raises UserError for a missing folder, classes that differ, a damaged image, mixed sizes.
    """
    if _is_archive(path):
        with tempfile.TemporaryDirectory() as folder:
            try:
                if path.suffix == ".zip":
                    zipfile.ZipFile(path).extractall(folder)
                else:
                    with tarfile.open(path) as archive:
                        archive.extractall(folder, filter="data")
            except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
                raise UserError(f"{where}: this archive cannot be unpacked: {error}. Fetch or make it again.") from None
            return read_image_folder(Path(folder), size, where)
    root = _find_splits(path)
    if root is None:
        raise UserError(
            f"{where}: no such folder, or it holds no train/ and test/. It must hold {{train,test}}/<class>/*."
        )
    classes = {split: {p.name for p in (root / split).iterdir() if p.is_dir()} for split in SPLITS}
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
    files = {
        split: [(f, label) for label, name in enumerate(names) for f in sorted((root / split / name).iterdir())]
        for split in SPLITS
    }
    for split in SPLITS:
        empty = sorted(set(range(len(names))) - {label for _, label in files[split]})
        if empty:
            raise UserError(f"{where}: {root / split / names[empty[0]]} holds no image. Add some, or remove the class.")
    everything = [file for split in SPLITS for file, _ in files[split]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(lambda file: _decode(file, size), everything))
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
    return PackedData(
        {"train": np.stack(images[:cut]), "test": np.stack(images[cut:])},
        {split: np.array([label for _, label in files[split]]) for split in SPLITS},
        names,
        f"image folder {path}",
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _decode(file: Path, size: int | None) -> np.ndarray:
    """One image, (H, W) where it is grey and (H, W, 3) otherwise, uint8."""
    try:
        with Image.open(file) as image:
            return _resize(image.convert("L" if image.mode in ("1", "L") else "RGB"), size)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: not a whole image: {error}. Replace or remove it.") from None


def _resize(image: Image.Image, size: int | None) -> np.ndarray:
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


# --- torchvision and scikit-learn -------------------------------------------------------------------------


def _with_retries(download: Callable[[], object]) -> object:
    """Call `download`, again after a pause where the network fails; torchvision checks what has arrived already."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return download()
        except (urllib.error.URLError, ConnectionError, TimeoutError, RuntimeError) as error:
            if attempt == ATTEMPTS:
                raise UserError(
                    f"{DOWNLOADS}: the download failed {ATTEMPTS} times: {error}. Try again later or, where there is no "
                    f"network, set {LOCATION_VARIABLE.format(name='<NAME>')} to a folder or archive with the images."
                ) from None
            print(f"download failed ({error}); attempt {attempt + 1} of {ATTEMPTS} follows", flush=True)
            time.sleep(2**attempt)
        except OSError as error:
            raise UserError(f"{DOWNLOADS}: cannot be written: {error.strerror}. Free some space there.") from None


def _read_torchvision(name: str, root: Path, size: int | None, download: bool) -> PackedData:
    import torchvision.datasets  # only here: it takes seconds to import

    def read(train: bool) -> object:
        kind = getattr(torchvision.datasets, name)
        split = {"split": "train" if train else "test"} if name == "SVHN" else {"train": train}
        return kind(root, download=download, **split)

    try:
        sets = {
            split: _with_retries(lambda t=(split == "train"): read(t)) if download else read(split == "train")
            for split in SPLITS
        }
    except RuntimeError:
        raise UserError(
            f"{root}: holds neither train/ and test/ nor {name} as torchvision keeps it, whole. Set the location to a folder, "
            f"tar or zip of {{train,test}}/<class>/*, or to a folder that torchvision downloaded {name} to."
        ) from None
    images, labels = {}, {}
    for split, data in sets.items():
        array = np.asarray(data.data)
        if name == "SVHN":
            array = array.transpose(0, 2, 3, 1)
        array = array[..., None] if array.ndim == 3 else array
        if size is not None:
            grey = array.shape[3] == 1
            array = np.stack([_resize(Image.fromarray(a[:, :, 0] if grey else a), size) for a in array])
            array = array[..., None] if grey else array
        images[split] = array
        labels[split] = np.asarray(data.labels if name == "SVHN" else data.targets)
    classes = [str(k) for k in range(10)] if name in ("SVHN", "MNIST") else list(sets["train"].classes)
    return PackedData(images, labels, classes, f"torchvision {name}")


def _read_digits(size: int | None) -> PackedData:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # the scale is 0 to 16
    images = np.stack([_resize(Image.fromarray(image), size) for image in images])[..., None]
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.25, stratify=digits.target, random_state=0
    )
    return PackedData(
        {"train": train, "test": test},
        {"train": train_labels, "test": test_labels},
        [str(name) for name in digits.target_names],
        "scikit-learn digits",
    )
