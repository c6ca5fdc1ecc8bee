"""Folders of images for tests of data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fspkd.config.data import ImageFolder
from fspkd.data.packed import PackedData
from fspkd.data.sets import DataSet
from fspkd.data.sources import prepared, read_images

if TYPE_CHECKING:
    from conftest import Project


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


def read_source(data: DataSet) -> PackedData:
    """A data set as scripts/pack.py packs it."""
    return prepared(read_images(data), data)


def folder(path: Path, **settings: object) -> DataSet:
    return DataSet(ImageFolder(name="mine", source="imagefolder", path=str(path), **settings), None)


def own_images(project: "Project", path: str = "images") -> Path:
    """Make image folders and point the preset at them, or at `path`, made from them later; returns one image's path."""
    make_folder(project.folder / "images", size=(8, 8))
    project.set("data.images", {"name": "mine", "source": "imagefolder", "path": path})
    return project.folder / "images" / "train" / "ant" / "0.png"
