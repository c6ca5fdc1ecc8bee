"""What a machine may lack, brought about in this process."""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


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


def memory_left(megabytes: int) -> AbstractContextManager[None]:
    """No more memory than that can be had."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return _limited(resource.RLIMIT_AS, pages * resource.getpagesize() + megabytes * 2**20)


@contextmanager
def may_not_be_read(path: Path) -> Iterator[None]:
    """A file, whose relative path is given, may be deleted but not read; root becomes nobody, since it may read all."""
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
