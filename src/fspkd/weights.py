"""Checkpoints and weights on disk: written atomically, and checked when they are read."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fspkd.errors import UserError
from fspkd.files import write_atomically


def save(content: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values, atomically; raises UserError where the disk is full."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load(path: Path, run_id: str, advice: str) -> dict[str, Any]:
    """Read what `save` wrote for that run; raises UserError for a damaged file or one of another run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        owner = content["run"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Make it with: snakemake {path}") from None
    except (RuntimeError, OSError, KeyError, TypeError, ValueError, EOFError, pickle.UnpicklingError):
        raise UserError(f"{path}: this file is damaged. {advice}") from None
    if owner != run_id:
        raise UserError(f"{path}: belongs to another run: it was written by {owner!r} and this is {run_id!r}. {advice}")
    return content


def weights_sha256(state: dict[str, Tensor]) -> str:
    """A checksum of named tensors: of their names, types, shapes and bytes, not of the file that holds them."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy())
    return total.hexdigest()


def load_checksum(folder: Path, run_id: str) -> str:
    """The checksum that the final weights of a finished run carry."""
    return _load_weights_file(folder, run_id)["sha256"]


def load_weights(folder: Path, run_id: str) -> dict[str, Tensor]:
    """The final weights of a finished run, checked against the checksum that they carry."""
    content = _load_weights_file(folder, run_id)
    if weights_sha256(content["state"]) != content["sha256"]:
        path = folder / "weights.pt"
        raise UserError(f"{path}: the weights do not match their checksum. {_advice(path)}")
    return content["state"]


def _load_weights_file(folder: Path, run_id: str) -> dict[str, Any]:
    path = folder / "weights.pt"
    return load(path, run_id, _advice(path))


def _advice(path: Path) -> str:
    return f"Delete it and train that net again: snakemake {path}"
