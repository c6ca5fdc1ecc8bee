"""The benchmark runs, and what it writes is consistent; speeds are for people to judge."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY

CORE = {min(os.sched_getaffinity(0))}


def test_benchmark_measures_every_way(tmp_path: Path) -> None:
    options = ["--depth", "8", "--width", "1", "--members", "2", "--repeats", "1", "--seconds", "0.1"]
    command = [sys.executable, REPOSITORY / "benchmarks" / "training.py", tmp_path / "out", *options]
    command += ["--cases", "stage 1, FSP", "FitNet 1, hint"]
    # On one core, so that each way is one process.
    subprocess.run(command, check=True, timeout=300, preexec_fn=lambda: os.sched_setaffinity(0, CORE))
    table = pd.read_csv(tmp_path / "out" / "training.csv").set_index(["case", "way"])
    assert list(table.loc["stage 1, FSP"].index) == ["plain", "broadcasting", "engine", "ceiling"]
    assert list(table.loc["FitNet 1, hint"].index) == ["plain", "engine", "tabulated", "ceiling"]
    assert (table["images_per_second"] > 0).all()
    for _, rows in table.groupby("case"):
        rate = rows["images_per_second"].droplevel("case")
        assert rows["to_plain"].droplevel("case")["engine"] == pytest.approx(rate["engine"] / rate["plain"], rel=1e-2)
    assert (tmp_path / "out" / "training.png").stat().st_size > 1000
