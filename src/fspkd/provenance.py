"""What made a file: code, versions, machine, inputs."""

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from fspkd.errors import UserError

PACKAGE = Path(__file__).parent
# What decides the outcome of every training; the rest reads, checks, saves, shows or draws.
ENGINE = ("distill/method.py", "draws.py", "engine/**/*.py", "models/*.py", "networks.py")
RECORDED = ("numpy", "torch", "torchvision", "scikit-learn", "pillow")


def git_commit() -> str | None:
    """The commit of the repository that the package lies in, with '-dirty' where tracked files differ from it."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def code_sha256(method: str) -> dict[str, str]:
    """Checksums of the code that decides what a training gives: the engine's, and that of the method's loss."""
    return {"engine": _files_sha256(ENGINE), "method": _files_sha256([f"distill/{method}.py"])}


def _files_sha256(names: Iterable[str]) -> str:
    total = hashlib.sha256()
    for name in names:
        found = sorted(PACKAGE.glob(name))
        if not found:
            raise UserError(f"{PACKAGE / name}: no such code. A method has the name of its module.")
        for file in found:
            total.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return total.hexdigest()


def provenance(method: str) -> dict[str, object]:
    """The code and the machine of the process that asks, which trains by a method."""
    return {
        "git_commit": git_commit(),
        "code_sha256": code_sha256(method),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in RECORDED}},
        "host": socket.gethostname(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "gpu": os.environ.get("SLURM_STEP_GPUS"),  # its number on the node
    }
