"""Tensors on disk: written atomically, and checked when they are read.

The files are zip archives, whose members carry checksums (CRC-32). PyTorch does not verify them, so this does.
"""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fspkd.errors import DamagedError, UserError, is_of_the_machine
from fspkd.files import write_atomically


def save(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values atomically; raises UserError if the disk is full."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, owner: str, advice: str) -> dict[str, Any]:
    """Read what `save` wrote for a run; raises DamagedError for a damaged file, and UserError for another run's."""
    try:
        with path.open("rb") as file:
            content = _checked(file)
            found = content["run"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Make it with: snakemake {path}") from None
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Make it readable.") from None
    except Exception as error:  # zipfile, zlib, pickle and PyTorch each raise their own
        if is_of_the_machine(error):
            raise
        raise DamagedError(f"{path}: this file is damaged. {advice}") from None
    if found != owner:
        raise UserError(f"{path}: belongs to another run: it was written by {found!r} and this is {owner!r}. {advice}")
    return content


def _checked(file: BinaryIO) -> dict[str, Any]:
    """The content of an open file; raises one of various exceptions if the file is damaged."""
    with zipfile.ZipFile(file) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
    file.seek(0)
    return torch.load(file, map_location="cpu", weights_only=True)


def weights_sha256(state: dict[str, Tensor]) -> str:
    """A checksum of named tensors: of their names, types, shapes and bytes, not of the file that holds them."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy())
    return total.hexdigest()


def save_weights(state: dict[str, Tensor], path: Path, owner: str) -> str:
    """Write the weights of a finished run with their checksum; return the checksum."""
    sha256 = weights_sha256(state)
    save({"run": owner, "sha256": sha256, "state": state}, path)
    return sha256


def load_checksum(path: Path, owner: str) -> str:
    """The checksum stored with the final weights of a finished run."""
    return load(path, owner, _advice(path))["sha256"]


def load_weights(path: Path, owner: str) -> dict[str, Tensor]:
    """The final weights of a finished run, verified against their stored checksum."""
    content = load(path, owner, _advice(path))
    if weights_sha256(content["state"]) != content["sha256"]:
        raise DamagedError(f"{path}: the weights do not match their checksum. {_advice(path)}")
    return content["state"]


def _advice(path: Path) -> str:
    return f"Delete it and make it again: snakemake {path}"
