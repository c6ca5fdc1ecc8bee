"""The processor, the GPU, and what decides the bits of a result on them."""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from fspkd.engine.device import usable_precision
from fspkd.errors import UserError
from fspkd.runs.spec import Run


def description(device: torch.device) -> dict[str, object]:
    """The GPU's name or "cpu", the number of CPU threads, and what decides the bits on either."""
    gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn_instructions": _onednn_instructions(),
        "mkl_cbwr": os.environ.get("MKL_CBWR"),
        "driver": _driver() if gpu else None,
        "cudnn": torch.backends.cudnn.version() if gpu else None,
    }


def check_precision(runs: Iterable[Run], device: torch.device) -> None:
    """Raise UserError if a device would compute a run in another precision than its preset asks for."""
    for run in runs:
        asked = run.spec.training.precision
        if usable_precision(asked, device) != getattr(torch, asked):
            lacking = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
            raise UserError(
                f"run {run.id}: training.precision = {asked!r}: {lacking} has no instructions for it, and the preset has "
                f"without_bfloat16 = 'refuse'. Train it on a machine that has them (avx512_bf16 in /proc/cpuinfo, or a GPU "
                f"since Ampere), set precision: float32, or remove without_bfloat16."
            )


def _processor() -> str:
    """The model of the processor; on ARM its implementer and part."""
    try:
        facts = dict(re.findall(r"^([^\t:]+?)\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        facts = {}
    arm = " ".join(facts[key] for key in ("CPU implementer", "CPU part") if key in facts)
    return facts.get("model name") or arm or platform.processor() or platform.machine()


@cache
def _onednn_instructions() -> str | None:
    """The instruction set that oneDNN reports when it first computes; PyTorch offers no other way to ask.

    It does so once per process, so this is None if it has reported before.
    """
    if not torch.backends.mkldnn.is_available():
        return None
    with suppress(BrokenPipeError):  # if nobody reads the output
        sys.stdout.flush()
    with tempfile.TemporaryFile() as said:
        out = os.dup(1)
        os.dup2(said.fileno(), 1)
        try:
            with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
                torch.zeros(1, 1, 1, 1).to_mkldnn()
        finally:
            os.dup2(out, 1)
            os.close(out)
        said.seek(0)
        found = re.search(rb"info,cpu,isa:(.*)", said.read())
    return found[1].decode().strip() if found else None


def _driver() -> str | None:
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
