"""The machine's load while it trains, under the names that MLflow shows as system metrics."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import torch

from fspkd.runs.folder import RunFolder
from fspkd.train.progress import tell

SECONDS_BETWEEN_SAMPLES = 10.0


@contextmanager
def usage_recorded(folders: list[RunFolder], device: torch.device) -> Iterator[None]:
    """While the context lasts, and at its end, record CPU, memory and GPU usage in each of these folders.

    It runs beside the training and never stops it: if something cannot be read or written, it says so and ends.
    """
    ended = threading.Event()

    def record() -> None:
        try:
            psutil.cpu_percent()  # the next call in this thread gives the average since this one
            last = False
            while not last:
                last = ended.wait(SECONDS_BETWEEN_SAMPLES)
                append(folders, sample(device))
        except Exception as error:  # a driver may fail in any way; training must not
            with suppress(OSError):
                tell(f"the machine's usage is no longer recorded: {error}")

    thread = threading.Thread(target=record, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1)


def sample(device: torch.device) -> dict[str, float | None]:
    """The time in milliseconds since 1970, CPU and memory usage, and a GPU's usage, memory and power, or None."""
    memory = psutil.virtual_memory()
    of_gpu: dict[str, Callable[[], float]] = {
        "gpu_0_utilization_percentage": lambda: torch.cuda.utilization(device),
        "gpu_0_memory_usage_megabytes": lambda: round(torch.cuda.device_memory_used(device) / 1e6),
        "gpu_0_power_usage_watts": lambda: torch.cuda.power_draw(device) / 1000,
    }
    return {
        "time": int(1000 * time.time()),
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": round(memory.used / 1e6),
        "system_memory_usage_percentage": memory.percent,
        **{name: _read(value) if device.type == "cuda" else None for name, value in of_gpu.items()},
    }


def _read(value: Callable[[], float]) -> float | None:
    """A reading of a GPU; None if its driver gives none, as for a slice, or for a virtual GPU's power."""
    try:
        return value()
    except Exception:  # a driver may fail in any way
        return None


def append(folders: list[RunFolder], values: dict[str, float | None]) -> None:
    """Append a line to the file of each folder, which begins with a header."""
    line = ",".join("" if v is None else f"{v:g}" if isinstance(v, float) else str(v) for v in values.values())
    for folder in folders:
        header = "" if folder.usage.exists() else ",".join(values) + "\n"
        with folder.usage.open("a") as growing:
            growing.write(f"{header}{line}\n")
