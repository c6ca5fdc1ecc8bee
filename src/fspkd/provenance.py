"""What made a file: code, versions, machine."""

import ast
import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Collection
from functools import cache
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parent
# Where the code lies that decides the bits of a net; the rest plans, reads, checks, saves, shows or draws.
DECIDING = ("distill", "draws", "engine", "models", "networks")
RECORDED = ("numpy", "torch", "torchvision", "scikit-learn", "pillow")


def git_commit() -> str | None:
    """The commit of the repository that the package lies in, with '-dirty' where tracked files differ from it."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def provenance() -> dict[str, object]:
    """The commit, the versions and the machine of the process that asks."""
    return {
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in RECORDED}},
        "host": socket.gethostname(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "gpu": os.environ.get("SLURM_STEP_GPUS"),
    }


# --- code -------------------------------------------------------------------------------------------------


def code_files(networks: Collection[str], method: str, optimizer: str) -> dict[str, list[Path]]:
    """The files of the package that decide what a training gives, by part.

    `engine`: all of it, and what it imports. `network`, `method`, `optimizer`: the modules with those names, and what they
    import that is in no part before.
    """
    found: dict[str, list[Path]] = {"engine": _with_imports([*sorted((PACKAGE / "engine").glob("*.py"))])}
    modules = {
        "network": [PACKAGE / "models" / f"{name}.py" for name in sorted(networks)],
        "method": [PACKAGE / "distill" / f"{method}.py"],
        "optimizer": [PACKAGE / "engine" / "optimizers" / f"{optimizer}.py"],
    }
    for part, files in modules.items():
        before = {file for files in found.values() for file in files}
        found[part] = [file for file in _with_imports(files) if file not in before]
    return found


@cache
def _code_sha256(networks: frozenset[str], method: str, optimizer: str) -> dict[str, str]:
    checksums = {}
    for part, files in code_files(networks, method, optimizer).items():
        total = hashlib.sha256()
        for file in files:
            total.update(f"{file.relative_to(PACKAGE)}\n{_effective(file)}\n".encode())
        checksums[part] = total.hexdigest()
    return checksums


def code_sha256(networks: Collection[str], method: str, optimizer: str) -> dict[str, str]:
    """Checksums of that code by part, without comments, docstrings and layout, which decide nothing."""
    return _code_sha256(frozenset(networks), method, optimizer)


def _with_imports(files: Collection[Path]) -> list[Path]:
    """Those files and, of the code that decides, all that they import, directly or not; sorted."""
    found, left = set(), list(files)
    while left:
        if (file := left.pop()) not in found:
            found.add(file)
            left += _imported(file)
    return sorted(found)


def _imported(file: Path) -> list[Path]:
    """The files of deciding modules that one imports."""
    modules = [
        name
        for node in ast.walk(ast.parse(file.read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.module
        for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    ]
    inside = [m.split(".")[1:] for m in modules if m.startswith(f"{PACKAGE.name}.") and m.split(".")[1] in DECIDING]
    return [path for parts in inside if (path := PACKAGE.joinpath(*parts).with_suffix(".py")).is_file()]


def _effective(file: Path) -> str:
    """The code of a file without its comments and docstrings."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            # Also the texts below the fields of settings.
            node.body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return ast.unparse(tree)
