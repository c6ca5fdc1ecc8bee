#!/usr/bin/env python
"""Measure training: python benchmarks/training.py results/benchmark

In one run, for each kind of training: the plain loop, the engine, and the ceiling, which is the same net's step on one
constant batch and nothing else; for FSP also the plain loop with matrices by broadcasting, as much-cited public code
makes them. Writes FOLDER/training.csv and training.png. Images are noise; nothing is downloaded.

On a GPU a way is one process. On a CPU the plain loop has all cores, as PyTorch takes them, and two loader processes
beside it; the engine and the ceiling are one process a core with one thread. Ways take turns, and medians are given.
"""

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import plain
import seaborn as sns
import torch
import torch.multiprocessing as multiprocessing
import yaml
from torch import nn

from fspkd.config.data import Augment
from fspkd.config.load import load_preset
from fspkd.data.packed import PackedData, load_packed, save_packed
from fspkd.engine import device
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.step import BLOCK, Step
from fspkd.plan import Plan
from fspkd.runs.folder import RunFolder
from fspkd.runs.spec import Run
from fspkd.train.loop import Loop
from fspkd.train.nets import initial_net
from fspkd.train.session import Session
from fspkd.weights import save_weights

PAPER = Path(__file__).parent.parent / "config" / "fsp" / "paper.yaml"
CASES = {  # the row and the stage that stand for each kind of training
    "scratch": ("teacher", 2),
    "stage 1, FSP": ("student_shuffled", 1),
    "stage 1, hints": ("fitnet_3_losses", 1),
    "stage 2, KD": ("fitnet_3_losses", 2),
}
WAYS = ("plain", "broadcasting", "engine", "ceiling")
PLAIN = WAYS[:2]
BATCH = 128
Go = Callable[[int], None]


# --- what is measured -------------------------------------------------------------------------------------


def bench_plan() -> Plan:
    return Plan(load_preset(Path("config/bench.yaml")), {})


def runs_of(case: str, members: int) -> list[Run]:
    row, stage = CASES[case]
    nets = bench_plan().rows[row][:members]
    return [net.start for net in nets] if stage == 1 else nets


def make_project(settings: argparse.Namespace) -> None:
    """A preset in the working directory, its data, and untrained weights where a case needs trained ones."""
    Path("config/fsp").mkdir(parents=True)
    shutil.copy(PAPER, "config/fsp")
    shutil.copytree(PAPER.parent / "reference", "config/fsp/reference")  # which its tables name
    bench = {
        "extends": "fsp/paper",
        "results": "results/bench",
        "claims": None,
        "data": {"cifar10": {"name": "noise", "source": "imagefolder", "path": ".", "augment": {"pad": 4}}},
        "networks": {
            **{name: {"depth": settings.depth, "width": settings.width} for name in ("teacher", "student")},
            "small_student": {"width": settings.width},
        },
        "schedules": {name: [{"until": 10**8, "rate": 1e-5}] for name in ("full", "third", "fsp", "hint")},
        "training": {"batch_size": BATCH, "precision": settings.precision, "evaluate_every": 10**8},
        "rows": {"fitnet_3_losses": {"stage1_shared": False}},
    }
    Path("config/bench.yaml").write_text(yaml.safe_dump(bench))
    draw = np.random.default_rng(0)
    images = {s: draw.integers(0, 256, (n, 32, 32, 3), np.uint8) for s, n in (("train", 10_000), ("test", 100))}
    labels = {split: draw.integers(0, 10, len(pixels)) for split, pixels in images.items()}
    data = PackedData(images, labels, [str(i) for i in range(10)], "noise")
    runs = [run for case in CASES for run in runs_of(case, 3)]
    save_packed(data, runs[0].data.path)
    finished = [other for run in runs for other in (run.start, run.teacher) if other]
    for run in dict.fromkeys(finished):
        state = initial_net(run, Images(data, Augment(), torch.device("cpu"))).state_dict()
        save_weights(dict(state), run.weights, run.id)


def plain_way(case: str, runs: list[Run], on: torch.device, matrix: Callable = plain.fsp) -> Go:
    """Members one after the other, as separate commands would train them."""
    spec = runs[0].spec
    data = load_packed(runs[0].data.path)
    images, labels = data.images["train"], data.labels["train"]
    stream = plain.batches(images, labels, plain.crops(32), spec.training.batch_size, on)

    def net() -> plain.ResNet:
        return plain.ResNet(spec.network.depth, spec.network.width, 3, len(data.classes)).to(on)

    regressors = nn.ModuleDict()
    if case == "stage 1, hints":
        widths = {f"section{i}": spec.network.width * 2 ** (i - 1) for i in (1, 2, 3)}
        regressors = nn.ModuleDict({k: nn.Sequential(nn.Conv2d(w, w, 1), nn.ReLU()) for k, w in widths.items()}).to(on)
    teacher = None if case == "scratch" else net().eval().requires_grad_(False)
    losses = {
        "scratch": lambda student, _, y: nn.functional.cross_entropy(student[1], y),
        "stage 1, FSP": lambda student, target, _: plain.fsp_loss(student, target, matrix),
        "stage 1, hints": lambda student, target, _: plain.hint_loss(student, target, regressors),
        "stage 2, KD": lambda student, target, y: plain.kd_loss(student, target, y, 4.0),
    }
    student = net().train()
    parameters = [*student.parameters(), *regressors.parameters()]
    rate = spec.schedule[0].rate
    optimizer = torch.optim.SGD(
        parameters, rate, spec.training.optimizer.momentum, weight_decay=spec.training.optimizer.weight_decay
    )

    def go(iterations: int) -> None:
        for _ in range(iterations * len(runs)):
            loss = plain.step(student, teacher, optimizer, *next(stream), losses[case])
        loss.item()

    return go


def make_loop(runs: list[Run], on: torch.device) -> Loop:
    images = Images(load_packed(runs[0].data.path), runs[0].spec.augment, on)
    return Loop([Session(run, images, device.new_stream(on)) for run in runs], checkpoint_seconds=1e9, stopped=[])


def engine_way(case: str, runs: list[Run], on: torch.device) -> Go:
    loop = make_loop(runs, on)

    def go(iterations: int) -> None:
        for _ in range(iterations // BLOCK[on.type]):
            loop.advance()
        assert not loop.failures, loop.failures

    return go


def ceiling_way(case: str, runs: list[Run], on: torch.device) -> Go:
    steps = make_loop(runs, on).steps
    images = steps[0].members[0].images
    x = images.to_input(images.test.repeat(2, 1, 1, 1)[: runs[0].spec.training.batch_size])
    y = images.train_labels[: len(x)]
    part = torch.zeros((), device=on)

    def descend(step: Step) -> None:
        for member, _ in step.gradients(x, y, part):
            member.optimizer.step()

    captured = [
        Captured(partial(descend, step), lambda step=step: [t for m in step.members for t in m.changed()], step.stream)
        for step in steps
    ]

    def go(iterations: int) -> None:
        for _ in range(iterations):
            for one in captured:
                one()
        if on.type == "cuda":
            torch.cuda.synchronize()

    return go


# --- measuring --------------------------------------------------------------------------------------------


def work(connection: Connection, way: str, case: str, members: int, threads: int, folder: str) -> None:
    """A process that runs as many iterations as it is told to, and says how much memory that took (MiB)."""
    on = device.choose(None, threads)
    runs = [replace(run, folder=RunFolder(Path(folder) / run.id)) for run in runs_of(case, members)]
    make = {
        "plain": plain_way,
        "broadcasting": partial(plain_way, matrix=plain.fsp_by_broadcasting),
        "engine": engine_way,
        "ceiling": ceiling_way,
    }
    go = make[way](case, runs, on)
    go(BLOCK[on.type])
    connection.send(on.type)
    while True:
        try:
            iterations = connection.recv()
        except EOFError:  # the parent needs it no more
            return
        go(iterations)
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        on_device = torch.cuda.max_memory_reserved() / 2**20 if on.type == "cuda" else 0.0
        connection.send((host, on_device))


class Way:
    """The processes that train in one way."""

    def __init__(self, way: str, case: str, members: int, cores: int) -> None:
        alone = way in PLAIN or torch.cuda.is_available()
        self.count = 1 if alone else cores
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for number in range(self.count):
            ours, theirs = context.Pipe()
            # Processes of one way train the same nets, each in a folder of its own.
            arguments = (theirs, way, case, members, cores if alone else 1, f"{way}{number}")
            process = context.Process(target=work, args=arguments)
            process.start()
            theirs.close()  # so that the death of the process is seen
            self.pipes.append(ours)
            self.processes.append(process)
        self.block = BLOCK[[pipe.recv() for pipe in self.pipes].pop()]

    def seconds(self, iterations: int) -> float:
        start = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(iterations)
        self.memory = [pipe.recv() for pipe in self.pipes]
        return time.perf_counter() - start

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join()


def measure(case: str, members: int, settings: argparse.Namespace) -> list[dict]:
    names = [way for way in WAYS if way != "broadcasting" or case == "stage 1, FSP"]
    ways: dict[str, Way] = {}
    try:
        for name in names:
            ways[name] = Way(name, case, members, len(os.sched_getaffinity(0)))
        return _measure(ways, case, members, settings)
    finally:
        for way in ways.values():
            way.close()


def _measure(ways: dict[str, Way], case: str, members: int, settings: argparse.Namespace) -> list[dict]:
    counts, rates = {}, {way: [] for way in ways}
    for name, way in ways.items():
        one = way.seconds(way.block)
        counts[name] = way.block * max(1, round(settings.seconds / one))
    for _ in range(settings.repeats):
        for name, way in ways.items():
            rates[name].append(counts[name] * members * way.count / way.seconds(counts[name]))
    rows = []
    for name, way in ways.items():
        host, on_device = (max(values) for values in zip(*way.memory, strict=True))
        each = statistics.median(rates[name])
        rows.append(
            {
                "case": case,
                "members": members,
                "way": name,
                "processes": way.count,
                "iterations_per_second": each,
                "images_per_second": BATCH * each,
                "lowest": BATCH * min(rates[name]),
                "highest": BATCH * max(rates[name]),
                "to_plain": statistics.median(a / b for a, b in zip(rates[name], rates["plain"], strict=True)),
                "to_ceiling": statistics.median(a / b for a, b in zip(rates[name], rates["ceiling"], strict=True)),
                "host_mib_per_process": host,
                "device_mib": on_device,
            }
        )
    return rows


def draw(frame: pd.DataFrame, path: Path, title: str) -> None:
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    grid = sns.catplot(
        frame,
        kind="bar",
        x="case",
        y="images_per_second",
        hue="way",
        hue_order=WAYS,
        col="members",
        height=3.2,
        aspect=1.3,
    )
    grid.set_axis_labels("", "images per second")
    grid.figure.suptitle(title, y=1.03)
    grid.savefig(path, dpi=150)
    plt.close(grid.figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--members", nargs="+", type=int, choices=(1, 2, 3), default=[1, 3])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one turn (default: 6)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--depth", type=int, default=26)
    parser.add_argument("--width", type=int, default=16)
    settings = parser.parse_args()
    settings.folder.mkdir(parents=True, exist_ok=True)
    folder = settings.folder.absolute()
    gpu = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if gpu else f"{len(os.sched_getaffinity(0))} CPU cores"
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        make_project(settings)
        for case in settings.cases:
            for members in settings.members:
                measured = measure(case, members, settings)
                rows += measured
                print(pd.DataFrame(measured).to_string(index=False, float_format="%.2f"), flush=True)
        os.chdir(folder)
    frame = pd.DataFrame(rows)
    frame.insert(0, "device", name)
    frame.insert(1, "precision", settings.precision)
    frame.to_csv(folder / "training.csv", index=False, float_format="%.4g")
    title = f"ResNet-{settings.depth}, batch {BATCH}, {settings.precision}, {name}"
    draw(frame, folder / "training.png", title)


if __name__ == "__main__":
    main()
