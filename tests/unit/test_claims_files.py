"""Files of claims: what is refused, the messages, and what the papers' own say."""

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, Project

from fspkd.config.load import load_preset, preset_files
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans
from fspkd.report.claims import judge


def test_files_of_claims_of_any_name_are_no_presets(project: Project) -> None:
    """A file that a preset names, even a damaged one, and one that none names; but a preset that names itself is one."""
    mine = project.claims_path.rename("config/tiny/my_claims.yaml")
    assert list(preset_files(Path("config"))) == ["tiny"], "by its list"
    project.set("claims", "tiny/my_claims.yaml")
    assert [len(plan.claims) for plan in load_plans()[0].values()] == [4]
    (mine.parent / "begun.yaml").write_text("claims:\n")  # its list is not written yet, and no preset names it
    assert set(preset_files(Path("config"))) == {"tiny"}
    mine.write_text("claims: [")
    with pytest.raises(
        UserError, match=r"claims = 'tiny/my_claims.yaml': config/tiny/my_claims.yaml: is not valid YAML"
    ):
        load_plans()
    assert list(preset_files(Path("config"))) == ["tiny"], "by its name"
    project.set("claims", "tiny.yaml")
    assert set(preset_files(Path("config"))) == {"tiny", "tiny/my_claims"}


def test_hidden_files_are_no_presets(project: Project) -> None:
    """As the copies that editors leave, which would take the preset's folder of results."""
    copy = Path("config/.ipynb_checkpoints/tiny-checkpoint.yaml")
    copy.parent.mkdir()
    copy.write_text(project.preset_path.read_text())
    Path("config/.#tiny.yaml").write_text("- damaged")
    assert load_plans()[0].keys() == {"results/tiny"}
    assert load_plans()[1] == []
    assert set(preset_files(Path("config"))) == {"tiny"}


def test_claims_are_about_what_a_preset_has_or_leaves_out(project: Project) -> None:
    assert len(project.plan().claims) == 4
    project.set("timings.timing", None)
    assert [claim.compare for claim in project.plan().claims] == ["rows", "rows", "figure"]
    project.set("timings.timing", ...)
    with pytest.raises(UserError, match=r"claims.yaml: claim 'claim 4': timing = 'timing': preset 'tiny' has no such"):
        project.plan()


def test_a_preset_leaves_out_what_it_extends(project: Project) -> None:
    text = "extends: tiny\nresults: results/child\ntables: {table1: null}\nfigures: {figure3: null}\n"
    Path("config/child.yaml").write_text(text)
    child = Plan(load_preset(Path("config/child.yaml")))
    assert (child.preset.tables, child.preset.figures) == ({}, {})
    assert [claim.compare for claim in child.claims] == ["timing"]
    Path("config/child.yaml").write_text("extends: tiny\nresults: results/child\nrows: {fitnet: null}\n")
    with pytest.raises(UserError, match=r"tables.table1.rows.FitNet, 1 loss\* = 'fitnet': no such entry in rows"):
        load_preset(Path("config/child.yaml"))


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("{compare: rows, table: tabel1, value: average, more: a, less: b}", r"table = 'tabel1': .* mean 'table1'\?"),
        (
            "{compare: rows, value: best}",
            r"config/tiny/claims.yaml: claims.0.*value = 'best': input should be 'accuracy'",
        ),
        ("{compare: timing, timing: timing, what: speed}", r"claims.0.*what = 'speed': input should be 'speed-up of"),
        (
            "{compare: rows, table: table1, value: average, more: Students*, less: Teacher}",
            r"more = 'Students\*'.*did you mean 'Student\*'",
        ),
        (
            "{compare: rows, table: table1, value: average, more: Teacher, less: Teacher}",
            r"more and less are the same: 'Teacher'. Name different ones",
        ),
        (
            "{compare: rows, table: table1, value: average, more: Student*, less: Teacher, more_than: 1, within: 2}",
            r"more_than and within: .* Remove one of the two",
        ),
    ],
)
def test_mistakes_in_claims_are_refused(project: Project, claim: str, message: str) -> None:
    project.claims_path.write_text(f"claims: [{{claim: x, where: y, {claim[1:]}]")
    with pytest.raises(UserError, match=message):
        project.plan()


def test_a_file_of_claims_that_is_not_there_is_told_with_what_names_it(project: Project) -> None:
    project.set("claims", "tiny/claim.yaml")
    with pytest.raises(
        UserError, match=r"preset 'tiny': claims = 'tiny/claim.yaml': config/tiny/claim.yaml: cannot be read"
    ):
        project.plan()


def test_claims_about_the_accuracy_of_first_stages_are_refused(project: Project) -> None:
    project.set("figures.figure3", {**project.content["figures"]["figure3"], "stage": 1})
    project.set("figures.figure3.curves", {"Teacher": "fitnet", "Student": "student"})
    assert len(project.plan().claims) == 4
    project.claims_path.write_text(project.claims_path.read_text().replace("training loss", "test accuracy"))
    with pytest.raises(UserError, match=r"measure = 'test accuracy': figure 'figure3' .* shows first stages"):
        project.plan()


def test_claims_about_rows_on_other_data_are_refused(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("data.others", {"name": "others", "source": "imagefolder", "path": "x"})
    project.set("rows.student.data", "others")
    with pytest.raises(
        UserError, match=r"claim 'claim 1': 'Student\*' is on 'others' and 'Teacher' on 'images', but only"
    ):
        project.plan()


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("fsp/paper", "fsp/mini", "fsp/quickstart"), 45),
        (("fitnets/paper", "fitnets/quickstart"), 32),  # its mini preset has fewer tables
    ],
)
def test_the_papers_claims_are_all_about_what_the_presets_have(
    names: tuple[str, ...], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name in names:
        assert len(Plan(load_preset(Path(f"config/{name}.yaml"))).claims) == count


@pytest.mark.parametrize(("name", "count"), [("fsp/paper", 38), ("fitnets/paper", 24)])
def test_what_a_paper_publishes_fulfils_its_claims(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So none has its rows swapped, or is about another table than the one it quotes."""
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path(f"config/{name}.yaml")), environment={}, runs=tmp_path)
    judged = judge(plan).dropna(subset="published").set_index("claim")
    assert len(judged) == count
    for claim, line in judged.iterrows():
        value, threshold = line["published"], line["threshold"]
        assert abs(value) < threshold if line["has_to_be"] == "within" else value > threshold, claim
    for claim in plan.claims:
        if quoted := re.search(r"(table|figure) \d", claim.where):
            entry = quoted[0].replace(" ", "")
            assert getattr(claim, quoted[1], entry) == entry, claim.claim  # claims about times have neither
