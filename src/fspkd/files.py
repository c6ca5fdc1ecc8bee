"""Write files so that a partial one is never taken for a complete one, and check that they are unchanged."""

import glob
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from fspkd.errors import UserError, advice

A_DAY = 86400  # seconds


def temporary_beside(path: Path) -> Path:
    """The temporary file that this process writes before it replaces `path`.

    Leftovers of killed processes for the same `path` are removed: those of this machine's processes that are gone, and
    those of other machines that have not been written to for a day.
    """
    here, start = socket.gethostname(), f".{path.name}."
    for left_over in path.parent.glob(f"{glob.escape(start)}*@*.tmp"):
        with suppress(OSError, ValueError):
            process, _, host = left_over.name.removeprefix(start).removesuffix(".tmp").partition("@")
            is_old = time.time() - left_over.stat().st_mtime > A_DAY
            if is_old if host != here else not psutil.pid_exists(int(process)):
                left_over.unlink()
    return path.with_name(f"{start}{os.getpid()}@{here}.tmp")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file as `written_atomically` does."""
    with written_atomically(path) as file:
        file.write(content)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` to write to, then flushed to disk and renamed: readers see the old content or the new, never a part.

    Raises UserError if the disk is full or the folder cannot be written; the old content is then untouched.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UserError(
            f"{path}: cannot be written: {error.strerror}. {advice(error)} and run the same command again: "
            f"nothing is lost, and training resumes from its last checkpoint."
        ) from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Prefix:
    """The first bytes of a growing file, which no longer change, and their SHA-256; None if that was not recorded."""

    bytes: int = 0
    sha256: str | None = None

    def is_in(self, path: Path) -> bool:
        """Whether a file begins with those bytes."""
        try:
            with path.open("rb") as file:
                content = file.read(self.bytes)
        except FileNotFoundError:
            content = b""
        return len(content) == self.bytes and self.sha256 in (None, hashlib.sha256(content).hexdigest())


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """Context for appending to a file: a full disk raises a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written: {error.strerror}. {advice(error)} and run the same command again: "
            f"training resumes from its last checkpoint."
        ) from None
