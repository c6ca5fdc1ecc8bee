"""Cached outputs of a teacher: the same bits as computed each time."""

from typing import Any

import pytest
import torch
from conftest import Project, die_at

from fspkd.engine import step, tabulated
from fspkd.engine.tabulated import Tabulated

METHODS: dict[str, dict[str, Any]] = {
    "kd": {"stage2": {"method": "kd", "teacher": "teacher/1", "schedule": "short"}},
    "hint": {"stage1": {"method": "hint", "teacher": "teacher/1", "schedule": "first", "sections": [1, 3]}},
    "fsp": {"stage1": {"method": "fsp", "teacher": "teacher/1", "schedule": "first", "shuffle": "channel"}},
    "attention": {
        "stage2": {"method": "attention_transfer", "teacher": "teacher/1", "schedule": "short", "weight": 9.0}
    },
    "relations": {"stage2": {"method": "relational_kd", "teacher": "teacher/1", "schedule": "short"}},
}
LONGER_THAN_A_TABLE = {False: 50, True: 95}  # a table: 43 batches of 32 for 1,347 digits, or 85 with mirror images


def project_with(project: Project, method: str, flip: bool, precision: str = "float32") -> None:
    plain = {"method": "cross_entropy", "schedule": "short"}
    row = {"data": "images", "network": "net", "nets": 1, "stage2": plain}
    for name in ("short", "first"):
        project.set(f"schedules.{name}", [{"until": LONGER_THAN_A_TABLE[flip], "rate": 0.01}])
    project.set("data.images.augment", {"flip": flip})
    project.set("training.precision", precision)
    project.set("rows.pupil", {**row, **METHODS[method]})


def trained(project: Project) -> tuple[dict[str, str], list[Tabulated | None]]:
    """The weights of both stages, and the tables of the steps."""
    tables = []
    of = Tabulated.of

    def spy(*arguments: object) -> Tabulated | None:
        tables.append(of(*arguments))
        return tables[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step.Tabulated, "of", spy)
        project.train("pupil/1")
    last = project.plan().net("pupil/1")
    runs = [run for run in (last.stage1, last) if run]
    sums = {run.id: run.folder.read_manifest().weights_sha256 for run in runs}
    for run in runs:
        for file in (run.folder.manifest, run.folder.checkpoint):
            file.unlink()
    return sums, tables


@pytest.mark.parametrize(
    ("method", "flip", "precision"),
    [
        ("kd", False, "float32"),
        ("hint", True, "float32"),
        ("hint", False, "bfloat16"),
        ("fsp", False, "float32"),
        ("attention", False, "bfloat16"),
    ],
)
def test_table_changes_no_bit(
    project: Project, monkeypatch: pytest.MonkeyPatch, method: str, flip: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project_with(project, method, flip, precision)
    kept, tables = trained(project)
    assert sum(table is not None for table in tables) == 1
    monkeypatch.setattr(tabulated, "BUDGET", 0)
    computed, tables = trained(project)
    assert not any(tables)
    assert kept == computed


@pytest.mark.parametrize("batch_size", [8, 10])
def test_resumed_where_a_table_no_longer_pays_ends_with_the_same_bits(project: Project, batch_size: int) -> None:
    """With two classes and few images, the bits of a product's rows may depend on their place in a batch."""
    project_with(project, "kd", False)
    project.set("data.images.classes", [0, 1])
    project.set("networks.net.width", 16)
    project.set("training.batch_size", batch_size)
    project.pack()
    whole, _ = trained(project)
    with pytest.MonkeyPatch.context() as patch:
        die_at(45, patch)
        with pytest.raises(KeyboardInterrupt):
            project.train("pupil/1")
    resumed, tables = trained(project)
    assert tables[-1] is None
    assert resumed == whole


def test_maps_of_lower_precision_are_kept_in_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    project_with(project, "hint", False, "bfloat16")
    _, tables = trained(project)
    (table,) = [table for table in tables if table]
    assert {rows.values.dtype for rows in table.rows} == {torch.bfloat16}
    assert {rows.dtype for rows in table.rows} == {torch.float32}


@pytest.mark.parametrize("case", ["relations", "crops", "short", "plain"])
def test_nothing_is_kept_that_is_not_the_same_again_or_does_not_pay(project: Project, case: str) -> None:
    project_with(project, "relations" if case == "relations" else "kd", True)
    if case == "crops":
        project.set("data.images.augment", {"pad": 1, "flip": True})
    if case == "short":
        project.set("schedules.short", [{"until": 80, "rate": 0.01}])
    if case == "plain":
        project.set("rows.pupil.stage2", {"method": "cross_entropy", "schedule": "short"})
    _, tables = trained(project)
    assert not any(tables)
