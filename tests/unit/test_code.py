"""Which code results depend on: when it changes, they are made again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

from fspkd.provenance import COMMIT, PACKAGE, git_commit, with_imports
from fspkd.workflow.results import ResultRule, code

LOADED = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    for module in [module for module in sys.modules if module.startswith("fspkd")]:
        del sys.modules[module]
    importlib.import_module(f"fspkd.report.{name}")
    files = [m.__file__ for n, m in sys.modules.items() if n.startswith(("fspkd.report.", "fspkd.runs.", "fspkd.times"))]
    found[name] = sorted(files)
print(json.dumps(found))
"""
MODULES = ("tables", "claims", "pictures", "summary", "curves", "depth", "plateau", "matrices")


def relative(files: list[str]) -> set[str]:
    return {str(Path(file).relative_to(PACKAGE)) for file in files}


def test_code_of_results_is_what_python_loads_of_it() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED, *MODULES], capture_output=True, text=True, check=True)
    assert {module: code(f"report/{module}") for module in MODULES} == json.loads(loaded.stdout)


def test_imports_are_followed_in_some_folders_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "report/mine.py": "from fspkd.report import helpers\nfrom fspkd.runs.other import f\nimport fspkd.plan\n",
        "report/helpers.py": "def f():\n    from fspkd.report.last import g\n",
        "report/last.py": "import numpy\nimport fspkd.report.mine\n",
        "runs/other.py": "from fspkd.report import unused\n",
        "report/unused.py": "",
        "plan.py": "",
    }
    package = tmp_path / "fspkd"
    for name, source in sources.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(source)
    monkeypatch.setattr("fspkd.provenance.PACKAGE", package)
    followed = ["report/helpers.py", "report/last.py", "report/mine.py"]
    assert with_imports([package / "report/mine.py"], ["report"]) == [package / name for name in followed]
    both = with_imports([package / "report/mine.py"], ["report", "runs"])
    assert both == [package / name for name in (*followed, "report/unused.py", "runs/other.py")]


def test_figures_are_made_of_the_methods_and_networks_that_they_compute_with(project: Project) -> None:
    """Their modules import these by the names in the nets' settings."""
    project.content["networks"]["other"] = {"architecture": "imagenet_resnet", "modules": [1, 1, 1, 1], "width": 2}
    own = {"data": "images", "network": "other", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    project.content["rows"]["other"] = own
    kinds = {
        "curves": {"curves": {"A": "fitnet"}},
        "plateau": {"curves": {"A": "fitnet"}},
        "matrices": {"net": "student/1"},
        "depth": {"panels": {"All": {"A": ["other"]}}},
    }
    project.set("figures", {kind: {"kind": kind, "title": "T", **settings} for kind, settings in kinds.items()})
    project.set("claims", None)
    plan, deciding = project.plan(), ("distill/", "engine/", "models/")
    found = {kind: relative(ResultRule(plan, "figure", kind).inputs()["code"]) for kind in kinds}
    assert not [file for file in found["curves"] if file.startswith(deciding)]
    assert {"distill/kd.py", "engine/schedule.py"} < found["plateau"]
    assert {"distill/fsp.py", "engine/batches.py", "train/nets.py", "models/cifar_resnet.py"} < found["matrices"]
    assert {"models/counts.py", "models/imagenet_resnet.py"} < found["depth"]
    assert "distill/hint.py" not in set().union(*found.values())
    assert "models/imagenet_resnet.py" not in found["matrices"]


def test_pages_are_made_of_their_templates_and_times_of_no_code(project: Project) -> None:
    plan = project.plan()
    pages = {"table": "table1", "claims": None, "summary": None}
    code = {kind: relative(ResultRule(plan, kind, name).inputs()["code"]) for kind, name in pages.items()}
    templates = {kind: {Path(file).stem for file in files if file.endswith(".j2")} for kind, files in code.items()}
    assert templates == {
        "table": {"page.html", "table.html"},
        "claims": {"page.html", "table.html"},
        "summary": {"page.html", "summary.html"},
    }
    assert {"report/curves.py", "report/training_time.py"} < code["summary"]
    assert "code" not in ResultRule(plan, "timing", "timing").inputs()


def test_an_archive_inside_another_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*command: str) -> None:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *identity, *command], cwd=tmp_path, check=True)

    def commit() -> str:
        program = "from fspkd.provenance import git_commit; print(git_commit())"
        return subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()

    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "unpacked/src"))
    monkeypatch.delenv(COMMIT, raising=False)
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "another project")
    shutil.copytree(PACKAGE, tmp_path / "unpacked/src/fspkd", ignore=shutil.ignore_patterns("__pycache__"))
    assert commit() == "None"
    git("add", ".")
    git("commit", "--quiet", "--message", "with this one in it")
    assert re.fullmatch("[0-9a-f]{40}", commit())
    with (tmp_path / "unpacked/src/fspkd/times.py").open("a") as file:
        file.write("\n")
    assert re.fullmatch("[0-9a-f]{40}-dirty", commit())


def test_without_git_the_commit_is_the_one_that_the_workflow_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() is None
    monkeypatch.setenv(COMMIT, "0123")
    assert git_commit() == "0123"
