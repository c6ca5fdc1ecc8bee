#!/usr/bin/env python
"""Measure what it costs to check files before they are read, at the papers' sizes: python benchmarks/checks.py

Each line gives the seconds to read a file without and with its check: the best of five, with the files in memory. Files
are noise, written to a temporary folder: CIFAR-10, and a ResNet-26 with 64,000 iterations.
"""

import tempfile
import timeit
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from cases import CONFIG

from fspkd.config.load import load_preset
from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.files import Prefix, file_sha256
from fspkd.models import build
from fspkd.plan import Plan
from fspkd.runs.folder import RunFolder
from fspkd.runs.predictions import load_predictions, save_predictions
from fspkd.runs.spec import Run
from fspkd.train.metrics import MetricsFile
from fspkd.weights import load, save, save_weights

ITERATIONS, CLASSES = 64_000, 10
IMAGES = {"train": 50_000, "test": 10_000}


def make_data(path: Path) -> None:
    draw = np.random.default_rng(0)
    images = {split: draw.integers(0, 256, (count, 32, 32, 3), np.uint8) for split, count in IMAGES.items()}
    labels = {split: draw.integers(0, CLASSES, count) for split, count in IMAGES.items()}
    save_packed(PackedData(images, labels, [str(n) for n in range(CLASSES)], "noise"), path)


def make_run(run: Run) -> None:
    """Write a run's outputs, and a checkpoint."""
    run.folder.path.mkdir(parents=True)
    state = build(run.spec.network, (3, 32, 32), CLASSES, None).state_dict()
    save_weights(state, run.folder.weights, run.id)
    momentum = {name: torch.rand_like(tensor, dtype=torch.float32) for name, tensor in state.items()}
    save({"run": run.id, "net": state, "momentum": momentum}, run.folder.checkpoint)
    metrics = MetricsFile(run.folder.metrics, Prefix(), validation=False)
    draw = np.random.default_rng(0)
    metrics.append([(n, 0.1, *draw.random(2)) for n in range(1, ITERATIONS + 1)])
    logits = draw.standard_normal((IMAGES["test"], CLASSES), np.float32)
    save_predictions(run.folder.predictions, logits, np.zeros(len(logits), np.int64))


def read_data(path: Path) -> None:
    with np.load(path) as file:
        for name in file.files:
            file[name]


def ways(run: Run, data: Path) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Functions that read each file, without and with its check."""
    folder = run.folder
    metrics, predictions = folder.metrics, folder.predictions
    return {
        "packed data, once a job": (lambda: read_data(data), lambda: load_packed(data)),
        "a checkpoint, once a job": (
            lambda: torch.load(folder.checkpoint, weights_only=True),
            lambda: load(folder.checkpoint, run.id, ""),
        ),
        "the measurements up to it, once a job": (
            metrics.read_bytes,
            lambda: Prefix(metrics.stat().st_size, "").is_in(metrics),
        ),
        "a net's predictions, once a table": (
            lambda: load_predictions(predictions),
            lambda: (file_sha256(predictions), load_predictions(predictions)),
        ),
        "a net's measurements, once a figure": (
            lambda: pd.read_csv(metrics),
            lambda: (file_sha256(metrics), pd.read_csv(metrics)),
        ),
        "a finished net, once a job that has it": (
            lambda: [file.exists() for file in folder.outputs(2)],
            lambda: folder.outputs_sha256(2),
        ),
    }


def main() -> None:
    run = Plan(load_preset(CONFIG / "fsp" / "paper.yaml"), {}).net("teacher/1")
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data.npz"
        run = replace(run, folder=RunFolder(Path(temporary) / run.id))
        make_data(data)
        make_run(run)
        best = {
            what: [min(timeit.repeat(way, number=1, repeat=5)) for way in both]
            for what, both in ways(run, data).items()
        }
    table = pd.DataFrame.from_dict(best, orient="index", columns=["read", "with its check"])
    table["the check"] = table["with its check"] - table["read"]
    print(table.rename_axis("file").to_markdown(floatfmt=".3f"))


if __name__ == "__main__":
    main()
