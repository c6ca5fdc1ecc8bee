"""Which GPU a process takes: of several, one that no other process of this user trains on."""

import os
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fspkd.errors import UserError

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_held: list[FileLock] = []  # until this process ends


def free_gpu() -> str | None:
    """The first GPU of CUDA_VISIBLE_DEVICES, or of all, that nobody holds, or else the first; None if there is none.

    This process then holds it until it ends, however it ends. Raises UserError if there is a driver but no usable GPU,
    and if PyTorch has no kernels for the GPU.
    """
    if not torch.cuda.is_available():
        _check_that_none_is_left_idle()
        return None
    for index in range(torch.cuda.device_count()):
        lock = FileLock(_place(torch.cuda.get_device_properties(index).uuid), blocking=False)
        try:
            lock.acquire()
        except Timeout:
            continue
        _held.append(lock)
        return _that_computes(f"cuda:{index}")
    return _that_computes("cuda:0")


def _that_computes(device: str) -> str:
    """The device, if a kernel runs there: PyTorch also sees GPUs of generations that it has no kernels for."""
    try:
        torch.ones(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"{device}: PyTorch {torch.__version__} cannot compute on this GPU: {str(error).splitlines()[0]}. "
            "Use another GPU (CUDA_VISIBLE_DEVICES), or a PyTorch that has kernels for this one (docs/install.md); to train on "
            "the CPU anyway, set CUDA_VISIBLE_DEVICES to nothing: export CUDA_VISIBLE_DEVICES="
        ) from None
    return device


def _place(uuid: object) -> Path:
    return Path(tempfile.gettempdir()) / f"fspkd-{os.getuid()}-gpu-{uuid}.lock"


def _check_that_none_is_left_idle() -> None:
    """Raise UserError if there is a GPU driver that PyTorch cannot use: a CPU would be a hundred times slower."""
    if not NVIDIA_DRIVER.exists() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    try:
        torch.cuda.init()
        reason = "no GPU is visible"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    driver = NVIDIA_DRIVER.read_text().splitlines()[0].strip()
    raise UserError(
        f"{NVIDIA_DRIVER}: {driver}: there is a GPU driver, but PyTorch {torch.__version__} cannot use a GPU: {reason}. "
        "Install a driver that PyTorch can use, or a PyTorch for this driver (docs/install.md); to train on the CPU anyway, "
        "set CUDA_VISIBLE_DEVICES to nothing: export CUDA_VISIBLE_DEVICES="
    )
