"""Averages, ensembles and tables from known predictions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import CLAIMS, REPOSITORY, Project
from finished import predict
from pretended import LABELS, pretend
from scipy import stats

from fspkd.config.load import load_preset
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report import pictures, predictions, tables
from fspkd.report.claims import judge


def test_ensemble_is_the_mean_of_the_softmax_outputs() -> None:
    first, second = np.array([[0.6, 0.4], [0.9, 0.1]]), np.array([[0.1, 0.9], [0.4, 0.6]])
    together = predictions.ensemble([np.log(first), 5 + np.log(second)])
    assert together == pytest.approx(np.array([[0.35, 0.65], [0.65, 0.35]]))
    assert predictions.correct(first, np.array([0, 0])).tolist() == [1, 1]
    assert predictions.correct(together, np.array([0, 0])).tolist() == [0, 1]


def test_table_has_nets_average_ensemble_iterations_and_published_values(project: Project) -> None:
    pretend(project)
    table = tables.make_table(project.plan(), "table1").set_index("row")
    values = [f"{name}{kind}" for name in ("net1", "net2", "average", "ensemble") for kind in ("", "_published")]
    assert list(table.columns) == [*values, "iterations", "iterations_published"]
    teacher = table.loc["Teacher"]
    assert list(teacher[["net1", "net2", "average", "ensemble"]]) == [75, 75, 75, 100]
    assert list(teacher[["net1_published", "average_published", "ensemble_published"]]) == [91.61, 91.75, 93.48]
    assert list(table["iterations"]) == [2 * 20, 10 + 8, 10 + 2 * 8]
    assert list(table["iterations_published"]) == [192_000, 98_000, 84_000]


def test_table_files_hold_the_same_numbers(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.rows.Teacher‡", "teacher")
    project.set("tables.table1.rows.A_b at 50%", "teacher")
    project.set("tables.table1.title", "Half & half")
    plan = project.plan()
    csv = tables.write(plan, "table1")
    assert pd.read_csv(csv)["average"].tolist() == [75, 75, 75, 75, 75]
    markdown = csv.with_suffix(".md").read_text()
    assert "| Teacher " in markdown
    assert "75.00 (91.75)" in markdown
    latex = csv.with_suffix(".tex").read_text()
    assert r"75.00 (91.75)" in latex
    assert r"Student$^*$" in latex
    assert r"Teacher$^\ddagger$ &" in latex
    assert r"A\_b at 50\% &" in latex
    assert r"\caption{Half \& half (preset" in latex
    assert latex.startswith("% needs \\usepackage{booktabs}\n\\begin{table}")


def test_a_demonstration_says_so_below_its_tables_and_shows_no_published_points(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr(pictures, "save", lambda drawing, png: drawn.append(drawing))
    pretend(project)
    project.set("about", "Digits, which say nothing.")
    for demonstration in (False, True):
        project.set("demonstration", demonstration)
        plan = project.plan()
        csv = tables.write(plan, "table1")
        for end in (".md", ".tex", ".html"):
            assert ("Digits, which say nothing." in csv.with_suffix(end).read_text()) == demonstration
        pictures.write_table(plan, "table1")
        labels = [line.get_label() for line in drawn[-1].axes[0].lines]
        assert ("published" in labels) == (not demonstration)


def test_a_row_of_ones_own_has_no_published_numbers(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.rows", {"Mine": "student", "Teacher*": "teacher", "FitNet, 1 loss*": "fitnet"})
    project.set("claims", ...)
    plan = project.plan()
    csv = tables.write(plan, "table1")
    table = pd.read_csv(csv).set_index("row")
    assert np.isnan(table.loc["Mine", "average_published"])
    assert table.loc["Teacher*", "average_published"] == 90.64
    assert "75.00 (–)" in csv.with_suffix(".md").read_text()
    assert "– (91.85)" in csv.with_suffix(".md").read_text()  # one net of ours, three published


def test_nets_tested_on_different_images_are_not_averaged(project: Project) -> None:
    pretend(project)
    run = project.plan().net("student/2")
    predict(run, torch.eye(3)[LABELS], LABELS.flip(0))
    with pytest.raises(UserError, match=r"student-1-\w+ and the other nets .* were tested on different images"):
        tables.make_table(project.plan(), "table1")


def test_replicates_give_means_and_students_interval(project: Project) -> None:
    project.set("replicates", 3)
    pretend(project)
    worse = project.plan().net("teacher/1", 2)
    predict(worse, torch.zeros(4, 3), LABELS)  # right about one image
    plan = project.plan()
    table = tables.make_table(plan, "table1").set_index("row")
    averages = [75, (25 + 75) / 2, 75]
    assert table.loc["Teacher", "average"] == pytest.approx(np.mean(averages))
    half = stats.t.ppf(0.975, 2) * np.std(averages, ddof=1) / np.sqrt(3)
    assert table.loc["Teacher", "average_ci95"] == pytest.approx(half)
    assert table["n"].tolist() == [3, 3, 3]
    assert table.loc["Teacher", "iterations"] == 40
    csv = tables.write(plan, "table1")
    assert f"66.67 ± {half:.2f} (91.75)" in csv.with_suffix(".md").read_text()
    assert "75.00 ± 0.00" in csv.with_suffix(".md").read_text()
    assert "± half a 95 % interval of the mean over 3 replicates" in csv.with_suffix(".md").read_text()


def test_intervals_over_nets_are_from_the_spread_within_all_rows(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("claims", ...)
    project.set("rows.student.stage1_shared", False)
    rows = {"Teacher": "teacher", "Again": "teacher", "One": "teacher/1", "FitNet": "fitnet", "Student*": "student"}
    project.set("tables.table1", {"title": "T", "rows": rows, "intervals": "nets"})
    pretend(project)
    plan = project.plan()
    accuracies = {"teacher/1": 3, "teacher/2": 1, "fitnet/1": 2, "student/1": 4, "student/2": 3}  # quarters
    for net, right in accuracies.items():
        predict(plan.net(net), 9.0 * torch.nn.functional.one_hot((LABELS + (torch.arange(4) >= right)) % 3, 3), LABELS)
    table = tables.make_table(plan, "table1").set_index("row")
    assert table["average"].tolist() == [50, 50, 75, 50, 87.5]
    squares, freedom, quantile = 2 * 25**2 + 2 * 12.5**2, 2, 4.302653  # rows of one net, and repeated rows, add nothing
    halves = [quantile * np.sqrt(squares / freedom / nets) for nets in (2, 2, 1, 1, 2)]
    assert table["average_ci95"].tolist() == pytest.approx(halves, rel=1e-6)
    assert [column for column in table if column.endswith("_ci95")] == ["average_ci95"]
    csv = tables.write(plan, "table1")
    assert f"50.00 ± {halves[0]:.2f}" in csv.with_suffix(".md").read_text()
    assert "± half a 95 % interval for other nets" in csv.with_suffix(".html").read_text()
    assert "average_ci95" not in tables.make_table(plan, "table1", ["Teacher"])  # of a row whose table is not yet made
    plan.net("student/1").folder.manifest.unlink()
    partial = tables.make_table(plan, "table1").set_index("row").loc["Student*"]
    assert partial[["average", "average_ci95"]].isna().all()  # no interval around nothing
    assert partial["net2"] == 75
    assert "±" not in tables.shown_table(tables.make_table(plan, "table1")).set_index("")["average"]["Student*"]


def test_table_without_a_reference_and_of_single_nets(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.reference", ...)
    project.set("tables.table1.rows", {"Teacher": "teacher/2", "Student*": "student/1"})
    project.set("claims", ...)
    plan = project.plan()
    table = tables.make_table(plan, "table1")
    csv = tables.write(plan, "table1")
    assert table.set_index("row").to_dict("list") == {"accuracy": [75, 75], "iterations": [20, 18]}
    assert "75.00 |" in csv.with_suffix(".md").read_text()


def metrics(results: Path) -> dict[str, dict[str, float]]:
    """The contents of table1's metrics files, by name, in the order in which DVC lists them."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((results / "metrics/table1").glob("*"))}


def test_metrics_are_a_file_for_each_row_that_the_table_has_now(project: Project) -> None:
    """Also for labels that cannot be file names; the others are for some of these rows, in another order."""
    pretend(project)
    project.set("claims", ...)
    project.set("tables.table1.reference", ...)
    odd = {"Student*, 1/2\n": "student/1", "Student*, 1-2-": "student/2", "†" * 100: "teacher/1", "†" * 99: "teacher/2"}
    accuracy = {"accuracy": 75, "iterations": 18}
    for rows, names in (
        (odd, ["01 Student*, 1-2-", "02 Student*, 1-2-", "03 " + "†" * 50, "04 " + "†" * 50]),
        ({"Teacher": "teacher/2", "Student*†": "student/1"}, ["01 Teacher", "02 Student*†"]),
    ):
        project.set("tables.table1.rows", rows)
        plan = project.plan()
        tables.write(plan, "table1")
        assert list(metrics(Path("results/tiny"))) == names
    assert metrics(Path("results/tiny"))["02 Student*†"] == accuracy


def test_metrics_of_many_rows_are_listed_in_their_order(project: Project) -> None:
    pretend(project)
    project.set("claims", ...)
    project.set("tables.table1.reference", ...)
    labels = [f"{100 - number} of a hundred" for number in range(100)]
    project.set("tables.table1.rows", dict.fromkeys(labels, "teacher/1"))
    plan = project.plan()
    tables.write(plan, "table1")
    assert [name.partition(" ")[2] for name in metrics(Path("results/tiny"))] == labels


ERRORS = """\
row,parameters,error
Teacher,361000,0.55
Student,30000,1.9
Maxout,,0.45
"Deep, supervised",,0.39
"""


def errors(project: Project, **rows: str) -> Plan:
    """The tiny preset with its table showing errors, and with rows that are only quoted."""
    Path("config/tiny/errors.csv").write_text(ERRORS)
    table = {"title": "T", "reference": "tiny/errors.csv", "measure": "error", "quoted": ["Maxout", "Deep, supervised"]}
    project.set("tables.table1", {**table, "rows": rows})
    return project.plan()


def test_errors_and_quoted_rows(project: Project) -> None:
    """A paper's one number per row stands beside our average."""
    project.set("claims", ...)
    plan = errors(project, Student="student", Teacher="teacher/1")
    pretend(project)
    predict(plan.net("student/2"), torch.zeros(4, 3), LABELS)  # wrong about three of four
    csv = tables.write(plan, "table1")
    table = pd.read_csv(csv).set_index("row")
    assert list(table) == ["net1", "net2", "average", "average_published", "ensemble", "iterations", "quoted"]
    assert table.loc["Student"].tolist()[:4] == [25, 75, 50, 1.9]
    assert table.loc["Teacher", ["net1", "average", "average_published"]].tolist() == [25, 25, 0.55]
    assert list(table.index[2:]) == ["Maxout", "Deep, supervised"]
    assert table["quoted"].tolist() == [False, False, True, True]
    assert table.loc["Maxout"].dropna().to_dict() == {"average_published": 0.45, "quoted": True}
    assert "Student,25.00,75.00,50.00,1.90,25.00,26,False\n" in csv.read_text()
    assert metrics(csv.parent) == {
        "01 Student": {"net1": 25, "net2": 75, "average": 50, "ensemble": 25, "iterations": 26},
        "02 Teacher": {"net1": 25, "average": 25, "iterations": 20},
    }
    for end, cell in ((".md", "– (0.45) |"), (".tex", "& -- (0.45) &"), (".html", "<td>– (0.45)</td>")):
        text = csv.with_suffix(end).read_text()
        assert "Maxout (quoted)" in text
        assert cell in text


def test_single_nets_have_a_column_of_errors(project: Project) -> None:
    project.set("claims", ...)
    project.set("replicates", 2)
    plan = errors(project, Student="student/1", Teacher="teacher/1")
    pretend(project)
    predict(plan.net("student/1", 2), torch.zeros(4, 3), LABELS)
    table = tables.make_table(plan, "table1")
    csv = tables.write(plan, "table1")
    assert list(table) == ["row", "error", "error_published", "error_ci95", "iterations", "n", "quoted"]
    half = stats.t.ppf(0.975, 1) * np.std([25, 75], ddof=1) / np.sqrt(2)
    assert table.iloc[0, 1:6].tolist() == [50, 1.9, pytest.approx(half), 18, 2]
    assert f"50.00 ± {half:.2f} (1.90)" in csv.with_suffix(".md").read_text()
    assert " – (0.39) |" in csv.with_suffix(".md").read_text()
    assert csv.read_text().splitlines()[-1] == '"Deep, supervised",,0.39,,,,True'


def test_more_of_an_error_is_worse(project: Project) -> None:
    claim = {**CLAIMS[0], "value": "error", "more": "Student", "less": "Teacher"}
    project.claims_path.write_text(yaml.safe_dump({"claims": [{"claim": "a", "where": "here", **claim}]}))
    plan = errors(project, Student="student", Teacher="teacher/1")
    pretend(project)
    for number in (1, 2):
        predict(plan.net(f"student/{number}"), torch.zeros(4, 3), LABELS)
    judged = judge(plan).iloc[0]
    assert (judged["ours"], judged["published"]) == (75 - 25, pytest.approx(1.9 - 0.55))
    for key in ("reference", "quoted"):
        project.set(f"tables.table1.{key}", ...)
    for value, table, named in (("average", "error", "error"), ("error", "accuracy", "accuracy, average")):
        claim = {**claim, "value": value}
        project.claims_path.write_text(yaml.safe_dump({"claims": [{"claim": "a", "where": "here", **claim}]}))
        project.set("tables.table1.measure", "error" if table == "error" else None)
        with pytest.raises(UserError, match=rf"value = '{value}': table 'table1' .* shows {table}. Name {named}"):
            project.plan()


def test_published_numbers_have_one_line_a_label(project: Project) -> None:
    Path("config/tiny/twice.csv").write_text("row,mark,average\nTeacher,,1\nStudent,*,2\nStudent*,,3\n")
    project.set("tables.table1.reference", "tiny/twice.csv")
    with pytest.raises(
        UserError, match=r"config/tiny/twice.csv: row = 'Student\*': occurs twice. Give the two different labels"
    ):
        project.plan()


@pytest.mark.parametrize("paper", ["fsp", "fitnets"])
def test_papers_presets_show_all_that_is_published(paper: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    plan = Plan(load_preset(Path(f"config/{paper}/paper.yaml")))
    for name in ("table1", "table2", "table3", "table4", "table5"):
        settings = plan.preset.tables.get(name) or plan.preset.timings[name]
        published = tables.read_published(settings.reference)
        assert [*settings.rows, *(getattr(settings, "quoted", None) or ())] == list(published.index)
        assert {"accuracy", "error", "average"} & set(published)
