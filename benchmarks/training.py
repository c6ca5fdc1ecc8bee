#!/usr/bin/env python
"""Measure training: python benchmarks/training.py results/benchmark

In one run, for each kind of training: the plain loop, the engine, and the ceiling, which is the same net's step on one
constant batch and nothing else; for FSP also the plain loop with matrices by broadcasting, as in much-cited public
code; for FitNets the engine with the teacher computed in every iteration, and with its outputs computed once
beforehand (tabulated; not in the measured time). Writes FOLDER/training.csv and training.png. Images are noise; nothing
is downloaded.

On a GPU each way is one process, and half of the cores load the plain loop's images. On a CPU the plain loop has all
cores, as PyTorch uses them, and two loader processes beside it; the engine and the ceiling are one process per core
with one thread, in huge pages, as in the workflow. Ways take turns, and medians are given.
"""

import argparse
import importlib
import os
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pandas as pd
import torch
import torch.multiprocessing as multiprocessing
from cases import BATCH, CASES, make_project, runs_of

from fspkd.engine import device
from fspkd.engine.step import BLOCK
from fspkd.provenance import HUGE_PAGES
from fspkd.runs.folder import RunFolder
from fspkd.train.machine import description

# Each with its module: a process imports no more than its way needs.
WAYS = {
    "plain": "plain_ways",
    "broadcasting": "plain_ways",
    "engine": "engine_ways",
    "tabulated": "engine_ways",
    "ceiling": "engine_ways",
}


def ways_of(case: str) -> list[str]:
    """The ways to train that are measured."""
    paper, row, _ = CASES[case]
    only = {"broadcasting": row == "student_shuffled", "tabulated": paper == "fitnets"}
    return [way for way in WAYS if only.get(way, True)]


def shortest(way: str, device_type: str) -> int:
    """The fewest iterations of a turn: a GPU is given many of the engine's at once."""
    return BLOCK[device_type] if WAYS[way] == "engine_ways" else min(50, BLOCK[device_type])


def work(connection: Connection, way: str, case: str, members: int, threads: int, folder: str) -> None:
    """Run as many iterations as the connection asks for, and send the memory that they took (MiB)."""
    on = device.choose(None, threads)
    runs = [replace(run, folder=RunFolder(Path(folder) / run.id)) for run in runs_of(case, members)]
    go = importlib.import_module(WAYS[way]).WAYS[way](case, runs, on)
    go(shortest(way, on.type))
    connection.send(on.type)
    while True:
        try:
            iterations = connection.recv()
        except EOFError:  # the parent has closed it
            return
        go(iterations)
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        on_device = torch.cuda.max_memory_reserved() / 2**20 if on.type == "cuda" else 0.0
        connection.send((host, on_device))


class Way:
    """The processes that train in one way."""

    def __init__(self, way: str, case: str, members: int, cores: int) -> None:
        alone = WAYS[way] == "plain_ways" or torch.cuda.is_available()
        self.count = 1 if alone else cores
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        if WAYS[way] == "engine_ways":
            os.environ.setdefault(*HUGE_PAGES)
        else:
            os.environ.pop(HUGE_PAGES[0], None)
        for number in range(self.count):
            ours, theirs = context.Pipe()
            # Processes of one way train the same nets, each in its own folder.
            arguments = (theirs, way, case, members, cores if alone else 1, f"{way}{number}")
            process = context.Process(target=work, args=arguments)
            process.start()
            theirs.close()  # so that the process's death is noticed
            self.pipes.append(ours)
            self.processes.append(process)
        self.shortest = shortest(way, [pipe.recv() for pipe in self.pipes].pop())

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
    ways: dict[str, Way] = {}
    try:
        for name in ways_of(case):
            ways[name] = Way(name, case, members, len(os.sched_getaffinity(0)))
        return _measure(ways, case, members, settings)
    finally:
        for way in ways.values():
            way.close()


def _measure(ways: dict[str, Way], case: str, members: int, settings: argparse.Namespace) -> list[dict]:
    counts, rates = {}, {way: [] for way in ways}
    for name, way in ways.items():
        one = way.seconds(way.shortest)
        counts[name] = way.shortest * max(1, round(settings.seconds / one))
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
    import matplotlib
    import seaborn as sns

    matplotlib.use("Agg")
    sns.set_theme(context="paper", style="whitegrid", palette="colorblind")
    grid = sns.catplot(
        frame,
        kind="bar",
        x="case",
        y="images_per_second",
        hue="way",
        hue_order=[way for way in WAYS if way in set(frame["way"])],
        col="members",
        height=3.2,
        aspect=0.5 + frame["case"].nunique() / 5,
    )
    grid.set_axis_labels("", "images per second")
    grid.figure.suptitle(title, y=1.03)
    grid.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--members", nargs="+", type=int, choices=(1, 2, 3), default=[1, 3])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of one turn (default: 6)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--depth", type=int, default=26, help="of ResNets")
    parser.add_argument("--width", type=int, default=16, help="of ResNets; the published FitNets have 16")
    settings = parser.parse_args()
    settings.folder.mkdir(parents=True, exist_ok=True)
    folder = settings.folder.absolute()
    gpu = torch.cuda.is_available()
    cores = f"{len(os.sched_getaffinity(0))} cores of {description(torch.device('cpu'))['processor']}"
    name = torch.cuda.get_device_name() if gpu else cores
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        os.chdir(temporary)
        make_project(settings.depth, settings.width, settings.precision)
        for case in settings.cases:
            for members in settings.members:
                measured = measure(case, members, settings)
                rows += measured
                print(pd.DataFrame(measured).to_string(index=False, float_format="%.2f"), flush=True)
                frame = pd.DataFrame(rows)
                frame.insert(0, "device", name)
                frame.insert(1, "precision", settings.precision)
                frame.to_csv(folder / "training.csv", index=False, float_format="%.4g")
        os.chdir(folder)
    title = f"Batch {BATCH}, {settings.precision}, {name}"
    draw(frame, folder / "training.png", title)


if __name__ == "__main__":
    main()
