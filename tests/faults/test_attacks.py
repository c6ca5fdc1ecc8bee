"""Malicious files: nothing in them is executed, written elsewhere or waited for; a refusal is one paragraph."""

import re
import shutil
from pathlib import Path

import forks
import pytest
from attacks import HARMLESS, REFUSED, Attack
from conftest import REPOSITORY, Project

pytestmark = pytest.mark.usefixtures("not_followed")


@pytest.fixture
def target(project: Project, tiny_results: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    (project.folder / "scripts").symlink_to(REPOSITORY / "scripts")
    shutil.copytree(tiny_results, "results")
    monkeypatch.setenv("FSPKD_DATA_CIFAR10", "")
    return project


def meet(target: Project, attack: Attack) -> tuple[int, str]:
    """The exit status of the script that an attack is for, and its output."""
    status, said = forks.said(attack(target))
    assert not [
        found for folder in (target.folder, target.folder.parent, Path("/")) for found in folder.glob("hacked*")
    ]
    return status, said


@pytest.mark.parametrize("name", REFUSED)
def test_refused(target: Project, name: str) -> None:
    attack, message = REFUSED[name]
    status, said = meet(target, attack)
    errors = re.findall(r"^error: .*(?:\n.+)*", said, re.MULTILINE)
    print(f"{name}: {' '.join(errors)}")
    assert (status, len(errors)) == (1, 1), said
    assert message in " ".join(said.split())
    assert len(said) < 2000


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless(target: Project, name: str) -> None:
    status, said = meet(target, HARMLESS[name])
    print(f"{name}: nothing happens. {said}")
    assert status == 0, said
