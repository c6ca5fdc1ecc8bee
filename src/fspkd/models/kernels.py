"""The functions of kernels.cpp, which a CPU trains batch norms with, compiled where there is a compiler."""

import ctypes
import hashlib
import os
import shlex
import subprocess
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
    """The functions for one kind of numbers; tensors are given by their places in memory."""

    forward: Callable
    backward: Callable
    add_relu: Callable


@cache
def kernels(dtype: torch.dtype) -> Kernels | None:
    """The functions for maps of such numbers; None where there are none, or no compiler that can make them."""
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
    """The C++ compiler that makes these functions, `CXX` or g++, and its version; None where there is none that can."""
    return _compiled()[0]


@cache
def _compiled() -> tuple[str, ctypes.CDLL] | tuple[None, None]:
    """The compiler, and what it makes for this kind of processor: once a user, in a second or two."""
    command = shlex.split(os.environ.get("CXX") or "g++")
    options = ["-O3", "-shared", "-fPIC", *OPTIONS.get(torch.backends.cpu.get_cpu_capability(), ())]
    try:
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        key = hashlib.sha256(repr((SOURCE.read_text(), command, version, options)).encode()).hexdigest()[:16]
        kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fspkd" / f"kernels-{key}.so"
        with suppress(OSError):
            return version.partition("\n")[0], ctypes.CDLL(str(kept))
        with TemporaryDirectory() as folder:
            made = Path(folder) / kept.name
            subprocess.run([*command, *options, str(SOURCE), "-o", str(made)], capture_output=True, check=True)
            library = ctypes.CDLL(str(made))
            with suppress(UserError):  # a home that cannot be written
                write_atomically(kept, made.read_bytes())
        return version.partition("\n")[0], library
    except (OSError, subprocess.CalledProcessError, RuntimeError):  # training goes on without
        return None, None
