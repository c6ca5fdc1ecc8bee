"""Shortages of a machine's resources, for tests."""

import gc
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def _limited(what: int, limit: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def no_more_files() -> AbstractContextManager[None]:
    """No file can be opened."""
    return _limited(resource.RLIMIT_NOFILE, 0)


@contextmanager
def memory_left(megabytes: int) -> Iterator[None]:
    """No block of memory of that size or more can be allocated, and no more than that from the system."""
    gc.collect()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    large, kept = megabytes * 2**20, []
    with _limited(resource.RLIMIT_AS, used):
        # Fill what was freed but not returned to the system: it could be reused, its end joined to new memory.
        for halved in range(8):
            with suppress(MemoryError):
                while True:
                    kept.append(bytearray(large >> halved))
    with _limited(resource.RLIMIT_AS, used + large):
        yield


@contextmanager
def may_not_be_read(path: Path) -> Iterator[None]:
    """A file, given by its relative path, may be deleted but not read; root becomes nobody, since root may read all."""
    is_root = os.geteuid() == 0
    for folder in path.parents:
        folder.chmod(0o777)
    path.chmod(0)
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(0o644)


@contextmanager
def small_disk(folder: os.PathLike, size: str) -> Iterator[None]:
    """A folder on a small disk of its own; skips the test if mounting is not allowed."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = subprocess.run(mount, stderr=subprocess.PIPE, text=True)
    if mounted.returncode:
        pytest.skip(mounted.stderr)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
