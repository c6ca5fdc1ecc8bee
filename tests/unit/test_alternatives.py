"""Alternatives of settings: the rows and tables that they stand for."""

from pathlib import Path

import pytest
import yaml
from conftest import Project
from mistakes import alternatives

from fspkd.config.load import load_preset
from fspkd.errors import UserError
from fspkd.plan import Plan


@pytest.fixture
def varied(project: Project) -> Project:
    """A project with alternatives of its student."""
    project.set("timings.timing", None)
    project.set("rows.student.stage1_shared", False)
    changes = {
        "heavy": {"stage1": {"weight": 2.5}},
        "hinted": {"stage1": {"method": "hint", "teacher": "teacher/2", "schedule": "first", "sections": [1, 2]}},
        "plain": {"stage1": None, "nets": 1},
    }
    project.set("alternatives", {"choices": alternatives(changes, row="student", **{"Teacher*": "teacher"})})
    return project


def test_a_change_is_a_row_and_a_line_of_the_table(varied: Project) -> None:
    plan = varied.plan()
    table = plan.preset.tables["choices"]
    assert (table.title, table.intervals) == ("T", "nets")
    assert list(table.rows.items()) == [
        ("student", "student"),
        ("stage1.weight = 2.5", "student_heavy"),
        (
            "stage1.method = hint, stage1.teacher = teacher/2, stage1.schedule = first, stage1.sections = [1, 2]",
            "student_hinted",
        ),
        ("stage1 = null, nets = 1", "student_plain"),
        ("Teacher*", "teacher"),
    ]
    student, heavy, hinted, plain = (plan.preset.rows[f"student{name}"] for name in ("", "_heavy", "_hinted", "_plain"))
    assert heavy == student.model_copy(update={"stage1": student.stage1.model_copy(update={"weight": 2.5})})
    assert (hinted.stage1.method, hinted.stage2) == ("hint", student.stage2)
    assert (plain.stage1, plain.nets) == (None, 1)


def test_its_runs_are_those_of_a_row_that_is_written_out(varied: Project) -> None:
    runs = varied.plan().nets("student_heavy")
    student = varied.content["rows"]["student"]
    varied.set("alternatives", {})
    varied.set("rows.student_heavy", {**student, "stage1": {**student["stage1"], "weight": 2.5}})
    assert [net.id for net in varied.plan().nets("student_heavy")] == [net.id for net in runs]


def test_a_preset_that_extends_adds_changes_and_leaves_out_comparisons(varied: Project) -> None:
    child = {"extends": "tiny", "results": "results/child", "rows": {"student": {"nets": 3}, "teacher": {"nets": 3}}}
    child["alternatives"] = {"choices": {"changes": {"light": {"stage1": {"weight": 0.5}}}}}
    path = Path("config/child.yaml")
    path.write_text(yaml.safe_dump(child))
    plan = Plan(load_preset(path))
    assert [len(plan.nets(f"student_{name}")) for name in ("heavy", "plain", "light")] == [3, 1, 3]
    path.write_text(yaml.safe_dump({**child, "alternatives": {"choices": None}}))
    preset = load_preset(path)
    assert (set(preset.rows), set(preset.tables)) == ({"teacher", "fitnet", "student"}, {"table1"})


@pytest.mark.parametrize("left_out", [{"alternatives": {"choices": None}}, {"shows": ["table1", "claims"]}])
def test_a_claim_about_a_comparison_that_is_left_out_is_too(varied: Project, left_out: dict) -> None:
    claim = {"claim": "it helps", "where": "here", "compare": "rows", "table": "choices", "value": "average"}
    claims = [{**claim, "more": "student", "less": "Teacher*"}]
    varied.claims_path.write_text(yaml.safe_dump({"claims": claims}))
    assert [claim.table for claim in varied.plan().claims] == ["choices"]
    path = Path("config/child.yaml")
    path.write_text(yaml.safe_dump({"extends": "tiny", "results": "results/child", **left_out}))
    assert Plan(load_preset(path)).claims == ()


def test_a_mistake_names_the_file_that_has_the_change(varied: Project) -> None:
    child = {"extends": "tiny", "results": "results/child"}
    child["alternatives"] = {"choices": {"changes": {"wrong": {"stage1": {"weight": -1}}}}}
    path = Path("config/child.yaml")
    path.write_text(yaml.safe_dump(child))
    message = (
        r"^config/child.yaml: alternatives.choices.changes.wrong.stage1.weight = -1: input should be greater than 0"
    )
    with pytest.raises(UserError, match=message):
        load_preset(path)


def test_a_mistake_of_the_row_is_told_once(varied: Project) -> None:
    varied.set("rows.student.stage2.schedule", "shrot")
    with pytest.raises(UserError, match=r"rows.student.stage2.schedule = 'shrot'") as told:
        varied.plan()
    assert str(told.value).count("shrot") == 1


def test_with_replicates_intervals_are_over_these(varied: Project) -> None:
    varied.set("rows.student.stage1_shared", True)  # replicates do not need independent nets
    varied.set("replicates", 2)
    assert varied.plan().preset.tables["choices"].intervals is None
    varied.set("tables.table1.intervals", "nets")
    told = r"tables.table1.intervals = 'nets': with replicates = 2, intervals are over replicates"
    with pytest.raises(UserError, match=told):
        varied.plan()
