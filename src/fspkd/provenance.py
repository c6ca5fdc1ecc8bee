"""What made a net: code, versions, machine."""

import ast
import hashlib
import io
import os
import platform
import socket
import subprocess
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

from fspkd.errors import UserError

PACKAGE = Path(__file__).parent
# The code that determines the bits of a net is in these; the rest plans, reads, checks, saves or plots.
DECIDING = ("distill", "draws", "engine", "models", "networks")
RECORDED = ("numpy", "torch", "torchvision", "scikit-learn", "pillow")
# glibc reads this when a process starts. Feature maps take megabytes: a CPU finds their pages faster at 2 MB than at 4 KB.
HUGE_PAGES = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")

COMMIT = "FSPKD_COMMIT"  # the variable that a workflow sets for its jobs, whose nodes may have no git


def git_commit() -> str | None:
    """The commit of the package's repository, with '-dirty' if tracked files differ from it.

    An unpacked archive has none, also inside another repository.
    """

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", "-C", str(PACKAGE), *command], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get(COMMIT)


def provenance() -> dict[str, object]:
    """The commit, the versions and the machine of this process."""
    return {
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in RECORDED}},
        "host": socket.gethostname(),
        "job_id": os.environ.get("SLURM_JOB_ID"),
        "gpu": os.environ.get("SLURM_STEP_GPUS"),
    }


# --- code -------------------------------------------------------------------------------------------------


def code_files(networks: Collection[str], method: str, optimizer: str) -> dict[str, list[Path]]:
    """The files of the package that determine the result of a training, by part.

    `engine`: all of it, and what it imports. `network`, `method`, `optimizer`: the modules with those names, and what they
    import that is in no earlier part. Raises UserError for a name without a module.
    """
    found = {"engine": with_imports((PACKAGE / "engine").glob("[!.]*.py"), DECIDING)}  # no editor's files
    modules = {
        "network": [PACKAGE / "models" / f"{name}.py" for name in sorted(networks)],
        "method": [PACKAGE / "distill" / f"{method}.py"],
        "optimizer": [PACKAGE / "engine" / "optimizers" / f"{optimizer}.py"],
    }
    for part, files in modules.items():
        if missing := [file for file in files if not file.is_file()]:
            raise UserError(f"{missing[0]}: no such module. A method, network or optimizer has the name of its module.")
        before = {file for files in found.values() for file in files}
        found[part] = [file for file in with_imports(files, DECIDING) if file not in before]
    return found


@cache
def code_sha256(networks: frozenset[str], method: str, optimizer: str) -> dict[str, str]:
    """Checksums of that code by part, ignoring what has no effect: comments, docstrings, error messages, empty lines."""
    checksums = {}
    for part, files in code_files(networks, method, optimizer).items():
        total = hashlib.sha256()
        for file in files:
            text = effective(file.read_text()) if file.suffix == ".py" else effective_cpp(file.read_text())
            total.update(f"{file.relative_to(PACKAGE)}\n{text}\n".encode())
        checksums[part] = total.hexdigest()
    return checksums


def with_imports(files: Iterable[Path], folders: Collection[str]) -> list[Path]:
    """Those files and all that they import, directly or not, from the given folders of the package; sorted.

    A module's own C++ code is beside it, under the same name.
    """
    found, left = set(), list(files)
    while left:
        if (file := left.pop()) not in found:
            found.add(file)
            left += _imported(file, folders)
    return sorted(found | {code for file in found if (code := file.with_suffix(".cpp")).is_file()})


def _imported(file: Path, folders: Collection[str]) -> list[Path]:
    """The files in given folders of the package that a file imports."""
    modules = [name for node in ast.walk(ast.parse(file.read_bytes())) for name in _names(node, file)]
    inside = [m.split(".")[1:] for m in modules if m.startswith(f"{PACKAGE.name}.") and m.split(".")[1] in folders]
    places = [PACKAGE.joinpath(*parts) for parts in inside]
    files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in files if file.is_file()]


def _names(node: ast.AST, file: Path) -> list[str]:
    """All that a statement of a file imports and that may be modules."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom(level=0, module=str(module)):
            return [module, *(f"{module}.{alias.name}" for alias in node.names)]
        case ast.ImportFrom():
            folders = file.relative_to(PACKAGE.parent).parent.parts
            start = folders[: len(folders) - node.level + 1]
            raise UserError(
                f"{file}: line {node.lineno}: a relative import, which checksums of code do not follow. Write: "
                f"from {'.'.join([*start, node.module] if node.module else start)} import ..."
            )
    return []


def effective(source: str) -> str:
    """The text of code without what has no effect; the same in every version of Python."""
    # Lines as Python counts them, unlike splitlines, which also ends one at a form feed.
    lines = [line.encode() for line in io.StringIO(source)]
    starts = [0, *accumulate(map(len, lines))]
    cuts = []
    nodes: Iterator[Any] = ast.walk(ast.parse(source))  # of which some have no position; statements do
    for node in nodes:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Raise):
            cuts.append((starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            begin = starts[token.start[0]] - len(token.line[token.start[1] :].encode())
            cuts.append((begin, begin + len(token.string.encode())))
    content, kept, done = b"".join(lines), [], 0
    for begin, end in sorted(cuts):
        kept.append(content[done:begin])
        done = max(done, end)
    text = b"".join([*kept, content[done:]]).decode()
    return "\n".join(line.rstrip() for line in text.split("\n") if line.strip())


def effective_cpp(source: str) -> str:
    """The same for C++."""
    lines = [line.partition("//")[0].rstrip() for line in source.splitlines()]
    return "\n".join(line for line in lines if line)
