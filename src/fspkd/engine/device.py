"""The device that a process trains on."""

import ctypes
import os
from contextlib import suppress

import torch

from fspkd.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def choose(name: str | None, threads: int) -> torch.device:
    """Set up torch for a device, by default the GPU if there is one; raises UserError if it is unavailable.

    float32 means float32 (no TF32), and the algorithms of cuDNN and attention are deterministic, so that a seed gives the same
    bits again.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # the same bits also on several streams
    torch.set_num_threads(threads)
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device = {name or 'cuda'!r}: cannot be used here: {str(error).splitlines()[0]}.") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device = {name!r}: must be cpu, cuda or cuda:N.")
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    if device.type == "cpu":
        _keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    # The backward passes of all attention kernels except the plain one add in a varying order.
    torch.backends.cuda.enable_flash_sdp(device.type == "cpu")
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    return device


def _keep_freed_memory() -> None:
    """Keep freed memory for the next feature maps, if the C library is glibc.

    By default it returns large blocks at once, and the kernel zeroes each new one: a tenth of the time or more.
    """
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def usable_precision(asked: str, device: torch.device) -> torch.dtype:
    """The precision that a preset asks for, or float32 where it would be emulated."""
    if asked == "float32":
        return torch.float32
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_bfloat16 = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def new_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A new stream for work that runs in parallel with other work; None on a CPU."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None
