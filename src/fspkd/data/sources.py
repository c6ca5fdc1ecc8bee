"""Where images come from: torchvision's data sets, CUB-200-2011, images on disk, scikit-learn's digits."""

import socket
import ssl
import time
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from fspkd.config.data import Data, Torchvision
from fspkd.data.folders import find_splits, has_splits, is_archive, read_cub200, read_image_folder, resize
from fspkd.data.packed import SPLITS, VALIDATION, PackedData
from fspkd.data.preprocess import preprocessed
from fspkd.data.sets import LOCATION_VARIABLE, DataSet
from fspkd.draws import Draws
from fspkd.errors import UserError, advice, is_of_the_machine

DOWNLOADS = Path("data/downloads")
# What torchvision stores of each of its data sets in a folder.
OF_TORCHVISION = {
    "CIFAR10": "cifar-10-batches-py",
    "CIFAR100": "cifar-100-python",
    "MNIST": "MNIST/raw",
    "SVHN": "*_32x32.mat",
}
ATTEMPTS = 4
SECONDS_WITHOUT_DATA = 60  # after which a connection counts as broken
MNIST_FILES = 4  # images and labels of both splits
CUB200 = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
CUB200_MD5 = "97eceeb196236b17998738112f37df78"


def prepared(packed: PackedData, data: DataSet) -> PackedData:
    """The images of read_images as training reads them: split and preprocessed as the data set's settings say.

    Held-out images replace the test images; validation images come from the remaining training images. Raises UserError
    if none would be left to train on.
    """
    settings = data.settings
    if settings.hold_out:
        packed = _held_out(packed, settings.name, settings.hold_out)
    if settings.validation:
        packed = _with_validation(packed, settings.name, settings.validation)
    if settings.preprocess:
        packed = preprocessed(packed, settings.name, settings.preprocess)
    return replace(packed, pinned=data.id if settings.sha256 else None)


def read_images(data: DataSet) -> PackedData:
    """All images of a data set, in canonical order, from its own source or from the location set for this machine.

    Raises UserError if images are missing, damaged, of mixed sizes, or not those that the preset pins.
    """
    settings, location = data.settings, data.location
    extra = getattr(settings, "extra", None)
    variable = LOCATION_VARIABLE.format(name=settings.name.upper())
    if location is not None:
        where = f"{variable} = {location!r}"
        if not Path(location).exists():
            raise UserError(f"{where}: no such file or folder. Set it to where {settings.name}'s images are.")
        if settings.source == "cub200":
            packed = read_cub200(Path(location), settings.size, where)
        else:
            packed = _read_location(settings, Path(location), where)
    elif settings.source == "imagefolder":
        where = f"data set {settings.name!r}: path = {settings.path!r}"
        packed = read_image_folder(Path(settings.path), settings.size, where)
    elif settings.source == "torchvision":
        packed = _read_torchvision(settings.dataset, DOWNLOADS, settings.size, extra, download=variable)
    elif settings.source == "cub200":
        packed = read_cub200(_download_cub200(variable), settings.size, f"data set {settings.name!r}")
    else:
        packed = _read_digits(settings.classes, settings.size)
    packed = packed.in_canonical_order()
    if settings.sha256 not in (None, packed.sha256):
        raise UserError(
            f"data set {settings.name!r}, from {packed.source}: these are not the images that the preset pins: "
            f"sha256 = {settings.sha256}, but the images have {packed.sha256}. Use the original images, or, for other "
            f"images, a preset whose data set has another name and no sha256."
        )
    return packed


def _read_location(settings: Data, place: Path, where: str) -> PackedData:
    """The images at a place that is set for this machine: a folder {train,test}/<class>/*, or torchvision's own files.

    These come before folders beside them, which may be of another data set.
    """
    if isinstance(settings, Torchvision) and not is_archive(place) and not has_splits(place):
        there = any(place.glob(OF_TORCHVISION[settings.dataset]))
        if there or not find_splits(place, where):
            return _read_torchvision(settings.dataset, place, settings.size, settings.extra)
    if isinstance(settings, Torchvision) and settings.extra:
        raise UserError(
            f"{where}: data set {settings.name!r} has extra = True, but folders {{train,test}}/<class>/* do not show "
            f"which images are extra. Set it to a folder that torchvision downloaded {settings.dataset} to."
        )
    return read_image_folder(place, settings.size, where)


def _held_out(packed: PackedData, name: str, count: int) -> PackedData:
    """A data set whose test images are `count` of its training images; the others are left to train on.

    They are drawn uniformly from all training images, so about the same share of every class; a larger draw contains every
    smaller one. Raises UserError if none would be left.
    """
    _check_some_left(packed, name, "hold_out", count)
    order = Draws(0, packed.sha256).generator("hold out").permutation(len(packed.labels["train"]))
    return _parted(packed, order[:count], "test", f"with {count} training images held out as test images")


def _with_validation(packed: PackedData, name: str, count: int) -> PackedData:
    """A data set with `count` of its training images in a validation split; the others are left to train on.

    The same share of every class is drawn, rounded by largest remainders. Raises UserError if none would be left to train
    on.
    """
    _check_some_left(packed, name, "validation", count)
    labels = packed.labels["train"]
    share = np.bincount(labels, minlength=len(packed.classes)) * count / len(labels)
    counts = share.astype(int)
    counts[np.argsort(counts - share, kind="stable")[: count - counts.sum()]] += 1
    order = Draws(0, packed.sha256).generator("validation").permutation(len(labels))
    chosen = np.concatenate([order[labels[order] == label][:part] for label, part in enumerate(counts)])
    return _parted(packed, chosen, VALIDATION, f"with {count} training images kept for validation")


def _check_some_left(packed: PackedData, name: str, key: str, count: int) -> None:
    if count >= (there := len(packed.labels["train"])):
        raise UserError(
            f"data set {name!r}: {key} = {count}: there are {there} training images, and some must be left to train on. Give "
            f"a smaller number."
        )


def _parted(packed: PackedData, chosen: np.ndarray, split: str, how: str) -> PackedData:
    """The data set with the chosen training images, by their numbers in canonical order, as a split of their own."""
    is_chosen = np.zeros(len(packed.labels["train"]), bool)
    is_chosen[chosen] = True
    images, labels = (
        {**of, "train": of["train"][~is_chosen], split: of["train"][is_chosen]} for of in (packed.images, packed.labels)
    )
    return PackedData(images, labels, packed.classes, f"{packed.source}, {how}")


# --- torchvision and scikit-learn -------------------------------------------------------------------------


def with_retries(download: Callable[[], Any], variable: str) -> Any:
    """Call `download`, again after a pause if the network fails; torchvision checks what has arrived already.

    One process downloads at a time, since others may want the same files. Raises UserError, which names the variable that
    says where the file lies on this machine.
    """
    socket.setdefaulttimeout(SECONDS_WITHOUT_DATA)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            DOWNLOADS.mkdir(parents=True, exist_ok=True)
            with FileLock(DOWNLOADS / "lock"):
                return download()
        except (OSError, HTTPException, RuntimeError) as error:
            if isinstance(error, OSError) and _is_of_files(error):
                raise UserError(f"{DOWNLOADS}: cannot be written: {error.strerror}. {advice(error)}.") from None
            if attempt == ATTEMPTS:
                raise UserError(
                    f"{DOWNLOADS}: the download failed {ATTEMPTS} times: {error}. Try again later or, if there is no "
                    f"network, set {variable} to a copy on this machine."
                ) from None
            print(f"download failed ({error}); attempt {attempt + 1} of {ATTEMPTS} follows", flush=True)
            time.sleep(2**attempt)


def _is_of_files(error: OSError) -> bool:
    """Whether files caused an error, and not the network: it names one, or is such as only files have."""
    of_the_network = isinstance(error, urllib.error.URLError | TimeoutError | ssl.SSLError)
    return not of_the_network and (error.filename is not None or is_of_the_machine(error))


def _read_torchvision(
    name: str, root: Path, size: int | None, extra: bool | None, download: str | None = None
) -> PackedData:
    """Read torchvision's files in a folder; with `download`, the variable to set if that fails, they are fetched first.

    `extra`: the training images are those of SVHN's splits `train` and `extra`.
    """
    import torchvision.datasets  # only here: it takes seconds to import

    def read(split: str) -> Any:
        kind = getattr(torchvision.datasets, name)
        chosen = {"split": split} if name == "SVHN" else {"train": split == "train"}
        try:
            return kind(root, download=download is not None, **chosen)
        except Exception as error:  # each part of a damaged file has its own
            # Once unpacked, MNIST's files are not checked; where none is missing, it is one of them that cannot be read.
            files = [file for file in root.glob("MNIST/raw/*-ubyte") if file.is_file()]
            if name != "MNIST" or len(files) < MNIST_FILES or is_of_the_machine(error):
                raise
            raise UserError(
                f"{root / 'MNIST'}: its files are damaged ({str(error) or type(error).__name__}). Delete that folder, and "
                f"download or copy it again."
            ) from None

    try:
        sets = {
            split: with_retries(partial(read, split), download) if download else read(split)
            for split in (*SPLITS, *(["extra"] if extra else []))
        }
    except RuntimeError:
        raise UserError(
            f"{root}: holds neither train/ and test/ nor a complete {name} as torchvision stores it. Set the location to a "
            f"folder, tar or zip of {{train,test}}/<class>/*, or to a folder that torchvision downloaded {name} to."
        ) from None
    images, labels = {}, {}
    for split, data in sets.items():
        array = np.asarray(data.data)
        if name == "SVHN":
            array = array.transpose(0, 2, 3, 1)
        array = array[..., None] if array.ndim == 3 else array
        if size is not None:
            grey = array.shape[3] == 1
            array = np.stack([resize(Image.fromarray(a[:, :, 0] if grey else a), size) for a in array])
            array = array[..., None] if grey else array
        images[split] = array
        labels[split] = np.asarray(data.labels if name == "SVHN" else data.targets)
        if len(images[split]) != len(labels[split]):
            raise UserError(
                f"{root}: {name} has {len(images[split])} images there and {len(labels[split])} labels ({split}). Delete its "
                f"files, and download or copy them again."
            )
    if extra:
        for of_split in (images, labels):
            of_split["train"] = np.concatenate([of_split["train"], of_split.pop("extra")])
    classes = [str(k) for k in range(10)] if name in ("SVHN", "MNIST") else list(sets["train"].classes)
    return PackedData(images, labels, classes, f"torchvision {name}")


def _download_cub200(variable: str) -> Path:
    """The archive of CUB-200-2011, downloaded if it is not there yet, and checked."""
    from torchvision.datasets.utils import download_url

    with_retries(lambda: download_url(CUB200, str(DOWNLOADS), md5=CUB200_MD5), variable)
    return DOWNLOADS / "CUB_200_2011.tgz"


def _read_digits(classes: tuple[int, ...], size: int | None) -> PackedData:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    chosen = np.isin(digits.target, classes)
    images = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)  # pixels are 0 to 16
    labels = np.searchsorted(classes, digits.target[chosen])
    images = np.stack([resize(Image.fromarray(image), size) for image in images])[..., None]
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    return PackedData(
        {"train": train, "test": test},
        {"train": train_labels, "test": test_labels},
        [str(name) for name in classes],
        "scikit-learn digits",
    )
