"""The functions of kernels.cpp, for training batch norms on a CPU, compiled if there is a compiler.

They have a plain C interface: torch.utils.cpp_extension would need ninja, and to compile PyTorch's headers.
"""

import ctypes
import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch

from fspkd.errors import UserError
from fspkd.files import write_atomically

SOURCE = Path(__file__).with_suffix(".cpp")
OPTIONS = {"AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512"), "AVX2": ("-march=x86-64-v3",)}
NOTHING, RELU, ADD_RELU = range(3)  # what follows a batch norm


class Kernels(NamedTuple):
    """The functions for one dtype; tensors are passed by their addresses in memory."""

    forward: Callable
    backward: Callable
    add_relu: Callable


@cache
def kernels(dtype: torch.dtype) -> Kernels | None:
    """The functions for maps of that dtype; None if there are none, or no compiler that can build them."""
    _, library = _compiled()
    if library is None or dtype not in (torch.float32, torch.bfloat16):
        return None
    name = str(dtype).removeprefix("torch.")
    forward, backward, add_relu = (library[f"{function}_{name}"] for function in Kernels._fields)
    then, place, count, number = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    forward.argtypes = [then, *[place] * 4, count, count, number, number, *[place] * 5]
    backward.argtypes = [then, *[place] * 7, count, count, *[place] * 4]
    add_relu.argtypes = [place, place, count]
    return Kernels(forward, backward, add_relu)


def compiler() -> str | None:
    """The C++ compiler that builds these functions, `CXX` or g++, and its version; None if there is none that can."""
    return _compiled()[0]


@cache
def _compiled() -> tuple[str, ctypes.CDLL] | tuple[None, None]:
    """The compiler, and the library that it builds for this kind of processor; prints why if none can be built."""
    try:
        command = shlex.split(os.environ.get("CXX") or "g++")
        version = _run([*command, "--version"])
        command += ["-O3", "-shared", "-fPIC", *OPTIONS.get(torch.backends.cpu.get_cpu_capability(), ())]
        return version.partition("\n")[0], _library(command, version)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", None) or str(error)).strip().partition("\n")[0]
        with suppress(OSError):  # a log whose disk is full
            print(f"{SOURCE.name} cannot be compiled, so that training is slower: {told}", file=sys.stderr, flush=True)
        return None, None


def _library(command: list[str], version: str) -> ctypes.CDLL:
    """The library that a command builds from the source, cached, if possible, with its checksum at its end."""
    key = hashlib.sha256(repr((SOURCE.read_text(), command, version)).encode()).hexdigest()[:16]
    name = f"kernels-{key}.so"
    kept = _cache() / "fspkd" / name
    with suppress(OSError):
        content = kept.read_bytes()
        if content[-32:] == hashlib.sha256(content[:-32]).digest():
            return ctypes.CDLL(str(kept))
    with TemporaryDirectory() as folder:
        made = Path(folder) / name
        _run([*command, str(SOURCE), "-o", str(made)])
        content = made.read_bytes()
        with suppress(OSError, UserError):  # a home that cannot be written
            write_atomically(kept, content + hashlib.sha256(content).digest())
            return ctypes.CDLL(str(kept))
        return ctypes.CDLL(str(made))


def _cache() -> Path:
    """The user's cache folder; without a home, one that nothing can be kept in."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return Path(os.devnull)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
