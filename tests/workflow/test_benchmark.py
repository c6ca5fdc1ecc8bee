"""The benchmark runs, and what it writes is consistent; how fast anything is, is for people to read."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY


def test_benchmark_measures_every_way(tmp_path: Path) -> None:
    options = ["--depth", "8", "--width", "4", "--members", "2", "--repeats", "1", "--seconds", "0.1"]
    command = [sys.executable, REPOSITORY / "benchmarks" / "training.py", tmp_path / "out", *options]
    command += ["--cases", "stage 1, FSP"]
    subprocess.run(command, check=True, timeout=300)
    table = pd.read_csv(tmp_path / "out" / "training.csv").set_index("way")
    assert list(table.index) == ["plain", "broadcasting", "engine", "ceiling"]
    rate = table["images_per_second"]
    assert (rate > 0).all()
    assert table.loc["engine", "to_plain"] == pytest.approx(rate["engine"] / rate["plain"], rel=1e-2)
    assert (tmp_path / "out" / "training.png").stat().st_size > 1000
