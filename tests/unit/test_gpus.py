"""Which GPU a process takes."""

import subprocess
import sys
from pathlib import Path

import pytest

from fspkd.errors import UserError
from fspkd.train import gpus
from fspkd.workflow import training

# The two GPUs and PyTorch are mocked; the processes and their locks are real.
PROCESS = """
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock
sys.modules["torch"] = torch = MagicMock()
torch.cuda.device_count.return_value = 2
torch.cuda.get_device_properties = lambda index: SimpleNamespace(uuid=f"{sys.argv[1]}-{index}")
from fspkd.train.gpus import free_gpu
print(free_gpu(), flush=True)
sys.stdin.read()
"""


def start(name: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_processes_take_different_gpus_until_there_is_none_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = tmp_path_factory.mktemp("gpus").as_posix().replace("/", "-")
    first, second = start(name), start(name)
    assert {first.stdout.readline(), second.stdout.readline()} == {"cuda:0\n", "cuda:1\n"}
    third = start(name)
    assert third.stdout.readline() == "cuda:0\n"
    for process in (second, third):
        process.communicate()
    first.kill()  # this frees its GPU, too
    first.wait()
    again = [start(name), start(name)]
    assert {process.stdout.readline() for process in again} == {"cuda:0\n", "cuda:1\n"}
    for process in again:
        process.communicate()


def test_a_driver_without_a_gpu_that_pytorch_can_use_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  390.157\n")
    monkeypatch.setattr(gpus, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr(gpus.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpus.torch.cuda, "init", too_old)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(
        UserError, match=r"Kernel Module  390.157: there is a GPU driver, but PyTorch .* cannot use a GPU: too old"
    ):
        gpus.free_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.free_gpu() is None


def test_a_gpu_that_pytorch_has_no_kernels_for_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpus.torch.cuda, "device_count", lambda: 0)  # all are taken: the first one is used anyway
    monkeypatch.setattr(gpus.torch, "ones", no_kernel)
    with pytest.raises(UserError, match=r"cuda:0: PyTorch .* cannot compute on this GPU: CUDA error: no kernel image"):
        gpus.free_gpu()


def too_old() -> None:
    raise RuntimeError("too old\nUpdate ...")


def no_kernel(size: int, device: str) -> None:
    raise RuntimeError(f"CUDA error: no kernel image is available for execution on {device}\nCompile with ...")


@pytest.mark.parametrize(
    ("visible", "count"),
    [("", 0), ("-1", 0), ("0", 1), ("0, 2", 2), ("GPU-8a,GPU-9b,", 2), ("MIG-1,MIG-2,MIG-3", 1), (None, 2)],
)
def test_gpus_that_jobs_share_are_counted(
    visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those in CUDA_VISIBLE_DEVICES; else those that the driver knows, if there is no nvidia-smi."""
    for bus in ("0000:17:00.0", "0000:65:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    monkeypatch.setattr(training, "KNOWN_GPUS", tmp_path / "gpus")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert training.gpus_here() == count
