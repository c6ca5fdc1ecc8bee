"""Packed data sets: one .npz file a data set, which is all that training ever reads.

Images are kept in a canonical order (by class, then by a hash of the pixels), so that the same images give the same
checksum and the same training, whatever source or order they came in.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from fspkd.errors import UserError
from fspkd.files import write_atomically

SPLITS = ("train", "test")


@dataclass(frozen=True)
class PackedData:
    """Images (N, H, W, C) uint8 and labels (N,) int64 of both splits, class names, and where they came from."""

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    classes: list[str]
    source: str

    @cached_property
    def sha256(self) -> str:
        """A checksum of the content: classes, shapes, pixels and labels, not of where it came from."""
        total = hashlib.sha256(json.dumps(self.classes).encode())
        for split in SPLITS:
            for array in (self.images[split], self.labels[split]):
                total.update(f"{array.dtype} {array.shape}".encode())
                total.update(np.ascontiguousarray(array))
        return total.hexdigest()

    def in_canonical_order(self) -> "PackedData":
        images, labels = {}, {}
        for split in SPLITS:
            hashes = np.array([hashlib.sha256(image.tobytes()).digest() for image in self.images[split]], dtype="S32")
            order = np.lexsort((hashes, self.labels[split]))
            images[split], labels[split] = (self.images[split][order], self.labels[split][order].astype(np.int64))
        return PackedData(images, labels, self.classes, self.source)


def save_packed(data: PackedData, path: Path) -> None:
    """Write a data set as one .npz file, atomically; equal content gives equal bytes."""
    arrays = {f"{split}_{kind}": getattr(data, kind)[split] for kind in ("images", "labels") for split in SPLITS}
    facts = {"classes": data.classes, "source": data.source, "sha256": data.sha256}
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    write_atomically(path, buffer.getvalue())


def read_sha256(path: Path) -> str:
    """The checksum that a packed data set carries, without reading its images."""
    with np.load(path) as file:
        return json.loads(file["facts"].tobytes())["sha256"]


def load_packed(path: Path) -> PackedData:
    """Read a packed data set and check it against its own checksum; raises UserError where it is missing or damaged."""
    try:
        with np.load(path) as file:
            facts = json.loads(file["facts"].tobytes())
            images = {split: file[f"{split}_images"] for split in SPLITS}
            labels = {split: file[f"{split}_labels"] for split in SPLITS}
        data = PackedData(images, labels, facts["classes"], facts["source"])
        damaged = data.sha256 != facts["sha256"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such packed data set. Make it with: snakemake {path}") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError):
        damaged = True
    if damaged:
        raise UserError(f"{path}: this packed data set is damaged. Delete it and make it again: snakemake {path}")
    return data
