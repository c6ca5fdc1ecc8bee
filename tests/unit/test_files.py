"""Files that are written whole or not at all, and what killed processes leave."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fspkd.errors import run_command
from fspkd.files import Prefix, write_atomically
from fspkd.train.metrics import MetricsFile


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_left_overs_of_dead_processes_go_and_those_of_others_stay(tmp_path: Path, dead: int) -> None:
    here = socket.gethostname()
    of_the_dead, of_the_living = (tmp_path / f".a.csv.{pid}@{here}.tmp" for pid in (dead, os.getppid()))
    elsewhere, long_ago = (tmp_path / f".a.csv.{dead}@{host}.tmp" for host in ("node1.cluster", "node2.cluster"))
    of_another_file = tmp_path / f".a.csv.gz.{dead}@{here}.tmp"
    for file in (of_the_dead, of_the_living, elsewhere, long_ago, of_another_file):
        file.write_text("half")
    os.utime(long_ago, (0, 0))
    write_atomically(tmp_path / "a.csv", b"whole")
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"a.csv", of_the_living.name, elsewhere.name, of_another_file.name}


def test_killed_while_it_writes_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "[odd] name.csv"
    write_atomically(path, b"old")
    program = (
        "import os, sys; from pathlib import Path; from fspkd.files import written_atomically\n"
        "with written_atomically(Path(sys.argv[1])) as file:\n"
        "    file.write(b'ne'); file.flush(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -9
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_atomically(path, b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"new"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """The fsync and rename calls, with the file's content as other processes see it at that moment."""
    made, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        made.append(("fsync", Path(f"/proc/self/fd/{descriptor}").read_bytes()))
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        made.append(("replace", Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return made


def test_all_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[tuple[str, bytes]]) -> None:
    """A file is whole even after a power failure: its name could reach the disk before its content."""
    write_atomically(tmp_path / "a.csv", b"whole")
    assert calls == [("fsync", b"whole"), ("replace", b"whole")]


def test_measurements_are_on_the_disk_before_a_checkpoint_tells_of_them(
    tmp_path: Path, calls: list[tuple[str, bytes]]
) -> None:
    metrics = MetricsFile(tmp_path / "metrics.csv", Prefix(), validation=False)
    metrics.append([(1, 0.1, 2.5, 1.0)])
    assert not calls
    assert metrics.sync().is_in(metrics.path)
    assert calls == [("fsync", metrics.path.read_bytes())]
    assert calls[0][1].endswith(b"\n1,0.1,2.5,1,,\n")


@pytest.mark.parametrize(("content", "is_in"), [(b"abcdef", True), (b"abc", True), (b"abd", False), (b"ab", False)])
def test_prefix_is_what_a_file_begins_with(tmp_path: Path, content: bytes, is_in: bool) -> None:
    whole = Prefix(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")  # SHA-256's own example: abc
    (tmp_path / "file").write_bytes(content)
    assert whole.is_in(tmp_path / "file") == is_in
    assert not whole.is_in(tmp_path / "none")
    assert Prefix().is_in(tmp_path / "none")


def test_an_error_of_the_program_is_not_told_as_the_machines() -> None:
    """Whatever error came before it; its traceback is needed."""
    with pytest.raises(RuntimeError, match="a bug"):
        run_command(fail_after_another)


def fail_after_another() -> None:
    try:
        raise IsADirectoryError(21, "Is a directory", "weights.pt")
    except OSError:
        raise RuntimeError("a bug") from None


def broken_off_by(error: Exception) -> Exception:
    """The error that CUDA raises after another one within a capture."""
    other = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    other.__context__ = error
    return other


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "there is not enough memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "not enough memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "not enough memory",
        ),
        (broken_off_by(RuntimeError("CUDA out of memory. Tried to allocate")), "not enough memory"),
        (
            OSError(24, "Too many open files", "x.npz"),
            "x.npz: Too many open files. Allow more open files (ulimit -n 4096)",
        ),
        (OSError(28, "No space left on device"), "standard output: No space left on device. Free some space"),
        (PermissionError(13, "Permission denied", "config"), "config: Permission denied. Make it readable"),
    ],
)
def test_what_the_machine_lacks_is_told_in_a_paragraph(
    error: Exception, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    out = os.dup(1)  # run_command closes it, as a process's last action
    try:
        with pytest.raises(SystemExit) as ended:
            run_command(fail)
    finally:
        os.dup2(out, 1)
        os.close(out)
    assert ended.value.code == 1
    said = capfd.readouterr().err
    assert told in " ".join(said.split())
    assert "Traceback" not in said


def test_the_programs_own_errors_have_a_traceback() -> None:
    def fail() -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        run_command(fail)
