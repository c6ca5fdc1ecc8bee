"""What made a file: code, versions, machine, inputs."""

import hashlib
import os
import platform
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parent
RECORDED = ("numpy", "torch", "torchvision", "scikit-learn", "pillow")


def git_commit() -> str | None:
    """The commit of the repository that the package lies in, with '-dirty' where tracked files differ from it."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def package_sha256() -> str:
    """A checksum of the package's own source files."""
    total = hashlib.sha256()
    for file in sorted(PACKAGE.rglob("*.py")):
        total.update(f"{file.relative_to(PACKAGE)}\n".encode() + file.read_bytes())
    return total.hexdigest()


def provenance() -> dict[str, object]:
    """The code and the machine of the process that asks."""
    return {
        "git_commit": git_commit(),
        "package_sha256": package_sha256(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in RECORDED}},
        "host": socket.gethostname(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "gpu": os.environ.get("SLURM_STEP_GPUS"),  # its number on the node
    }
