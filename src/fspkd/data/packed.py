"""Packed data sets: one .npz file per data set, which is all that training ever reads.

Images are kept in a canonical order (by class, then by a hash of the pixels), so that the same images give the same
checksum and the same training, whatever source or order they came in. The hash is of the pixels before preprocessing.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from fspkd.config.data import Preprocess
from fspkd.data.sets import DataSet
from fspkd.errors import DamagedError, UserError, is_of_the_machine
from fspkd.files import written_atomically

SPLITS = ("train", "test")
VALIDATION = "validation"  # an optional third split


@dataclass(frozen=True)
class PackedData:
    """Images (N, H, W, C) and labels (N,) int64 of all splits, class names, and where they came from.

    Images are uint8 or, if whitened, float32. `preprocess` is what was done to them, or is to be done to each batch, and
    `raw_sha256` the checksum before preprocessing. `pinned` is the data set's id if its content is pinned.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    classes: list[str]
    source: str
    preprocess: Preprocess | None = None
    raw_sha256: str | None = None
    pinned: str | None = None

    @property
    def sha256(self) -> str:
        """The checksum that identifies the data set: of its content before preprocessing, and of the preprocessing.

        Whitened images are not in it: their last bits depend on the packing machine and its linear algebra library.
        """
        if self.preprocess is None:
            return self.stored_sha256
        settings = json.dumps(self.preprocess.model_dump(mode="json", exclude_none=True), sort_keys=True)
        return hashlib.sha256(f"{self.raw_sha256} {settings}".encode()).hexdigest()

    @cached_property
    def stored_sha256(self) -> str:
        """A checksum of the content: classes, shapes, pixels and labels, but not the source."""
        total = hashlib.sha256(json.dumps(self.classes).encode())
        for split in self.images:
            for array in (self.images[split], self.labels[split]):
                total.update(f"{array.dtype} {array.shape}".encode())
                total.update(np.ascontiguousarray(array))  # type: ignore[arg-type]  # a buffer; its type says so from 3.12 on
        return total.hexdigest()

    def in_canonical_order(self) -> "PackedData":
        """The same images, sorted so that their source does not matter."""
        images, labels = {}, {}
        for split in SPLITS:
            hashes = np.array([hashlib.sha256(image.tobytes()).digest() for image in self.images[split]], dtype="S32")
            order = np.lexsort((hashes, self.labels[split]))
            images[split], labels[split] = (self.images[split][order], self.labels[split][order].astype(np.int64))
        return PackedData(images, labels, self.classes, self.source)


def save_packed(data: PackedData, path: Path) -> None:
    """Write a data set as one .npz file, atomically; equal content gives equal bytes."""
    arrays = {f"{split}_{kind}": getattr(data, kind)[split] for kind in ("images", "labels") for split in data.images}
    facts: dict[str, Any] = {"classes": data.classes, "source": data.source, "sha256": data.sha256}
    if data.pinned:
        facts["pinned"] = data.pinned
    if data.preprocess:
        facts |= {
            "preprocess": data.preprocess.model_dump(mode="json"),
            "raw_sha256": data.raw_sha256,
            "stored_sha256": data.stored_sha256,
        }
    with written_atomically(path) as file:
        np.savez(file, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)


def read_sha256(path: Path) -> str:
    """Read the checksum that identifies a packed data set, without its images.

    Raises UserError if it is missing, and DamagedError if it cannot be read.
    """
    with _damage_told(path), np.load(path) as file:
        return json.loads(file["facts"].tobytes())["sha256"]


def load_data(data: DataSet) -> PackedData:
    """Read the packed file of a data set.

    Raises UserError if it is missing, and DamagedError if it is damaged or, for pinned data, another data set's.
    """
    packed = load_packed(data.path)
    if data.settings.sha256 and packed.pinned != data.id:
        raise DamagedError(
            f"{data.path}: holds {packed.pinned or 'images of unknown origin'}, and not {data.id}, which the preset pins. "
            f"Delete it and make it again: snakemake {data.path}"
        )
    return packed


def load_packed(path: Path) -> PackedData:
    """Read a packed data set and check it against its own checksums.

    Raises UserError if it is missing, and DamagedError if it is damaged.
    """
    with _damage_told(path):
        with np.load(path) as file:
            facts = json.loads(file["facts"].tobytes())
            splits = (*SPLITS, VALIDATION) if f"{VALIDATION}_images" in file else SPLITS
            images = {split: file[f"{split}_images"] for split in splits}
            labels = {split: file[f"{split}_labels"] for split in splits}
        preprocess = TypeAdapter(Preprocess | None).validate_python(facts.get("preprocess"))
        more = (facts.get("raw_sha256"), facts.get("pinned"))
        data = PackedData(images, labels, facts["classes"], facts["source"], preprocess, *more)
        expected = (facts["sha256"], facts.get("stored_sha256", facts["sha256"]))
        if (data.sha256, data.stored_sha256) != expected:
            raise ValueError("other checksums")
    return data


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    """In this context a packed data set is read; raises UserError if it is missing, and DamagedError if that fails."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: no such packed data set. Make it with: snakemake {path}") from None
    except Exception as error:  # zipfile, numpy, zlib and json each raise their own
        if is_of_the_machine(error):
            raise
        raise DamagedError(
            f"{path}: this packed data set is damaged. Delete it and make it again: snakemake {path}"
        ) from None
