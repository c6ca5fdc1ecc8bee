"""Nets as torch.compile makes them, on a CPU: what lies between their convolutions is fused, forward and backward."""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from fspkd.errors import UserError
from fspkd.models.net import Net, Taps
from fspkd.runs.spec import RunSpec

LONG = 2_000  # iterations; from about so many the minute that compiling takes is earned back
NETS = 64  # in a job, at most: dynamo's own limit of 8 is for functions that it compiles again by mistake


def compiler_for(spec: RunSpec, net: Net, device: torch.device, precision: torch.dtype) -> str | None:
    """What compiles the net of a run, where it is compiled: on a CPU, in lower precision, if the training is long.

    In float32 the convolutions are so much of a step that little would be gained.
    """
    worthwhile = device.type == "cpu" and precision != torch.float32 and spec.iterations >= LONG
    return _compiler() if worthwhile and net.is_one_graph else None


def compiled(net: Net) -> Taps:
    """What computes a net's feature maps, compiled when it is first called.

    As one graph: of several, PyTorch decides by what else the process has compiled which parts it compiles.
    """
    torch._dynamo.config.recompile_limit = NETS
    torch._dynamo.config.fail_on_recompile_limit_hit = True  # and not go on uncompiled, with other bits
    return torch.compile(net.taps, fullgraph=True, dynamic=False)


@contextmanager
def failures_told(net: Net) -> Iterator[None]:
    """Around a forward and a backward pass, which are compiled apart: raises UserError where one cannot be."""
    try:
        yield
    except torch._dynamo.exc.FailOnRecompileLimitHit:
        raise UserError(f"a job can have {NETS} compiled nets. Train fewer in one: --config members={NETS}.") from None
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{net.network.name}: torch.compile cannot compile this net: {reason}. Set TORCH_COMPILE_DISABLE=1 in the "
            f"environment and run the same command again: it is then trained as it is."
        ) from None


@cache
def _compiler() -> str | None:
    """The C++ compiler and its version; None where it or what it needs is not there, or PyTorch is told not to compile."""
    if torch._dynamo.config.disable:  # by TORCH_COMPILE_DISABLE=1
        return None
    torch._inductor.config.compile_threads = 1  # no processes beside a job's own
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    try:
        torch.compile(torch.neg)(torch.zeros(8))
        told = subprocess.run([os.environ.get("CXX", "g++"), "--version"], capture_output=True, text=True, check=True)
    except Exception:  # whatever it is, training goes on without
        return None
    return told.stdout.partition("\n")[0]
