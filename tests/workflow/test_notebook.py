"""The notebook of docs/, executed on the results of the tiny preset."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient


def test_the_notebook_runs_and_its_ensemble_is_the_tables(
    tiny_results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_results, tmp_path / "results")
    (tmp_path / "results" / "tiny").rename(tmp_path / "results" / "quickstart")
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(REPOSITORY / "docs" / "results.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    printed = "".join(output.get("text", "") for output in outputs)
    by_hand, of_table = re.search(r"([\d.]+) by hand, ([\d.]+) in the table", printed).groups()
    assert by_hand == of_table
