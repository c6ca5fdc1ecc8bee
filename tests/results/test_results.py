"""Averages, ensembles, tables and figures from known predictions."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import CLAIMS, REPOSITORY, Project, finish, measure, predict
from scipy import stats

from fspkd.config.load import load_preset
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.report import curves, predictions, tables
from fspkd.report.claims import judge
from fspkd.report.origins import warnings
from fspkd.runs.spec import check_finished
from fspkd.workflow import ResultRule

LABELS = torch.tensor([0, 1, 2, 2])


def pretend(project: Project) -> None:
    """Folders of finished runs with known predictions: each net of a row is wrong about another image."""
    for run in project.plan().runs.values():
        finish(run)
        if run.spec.stage == 2:
            wrong = run.spec.number - 1
            logits = 2.0 * torch.nn.functional.one_hot(LABELS, 3).float()
            logits[wrong] = torch.tensor([0.5, 0.0, 0.0]) if LABELS[wrong] else torch.tensor([0.0, 0.5, 0.0])
            predict(run, logits, LABELS)
            loss = 2.0 if run.spec.row == "teacher" else 1.0
            frame = pd.DataFrame({"iteration": range(1, run.spec.iterations + 1), "loss": loss, "test_accuracy": 50.0})
            measure(run, frame)


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
    csv = project.folder / "table1.csv"
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", csv)
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


def test_a_row_of_ones_own_has_no_published_numbers(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.rows", {"Mine": "student", "Teacher*": "teacher", "FitNet, 1 loss*": "fitnet"})
    project.set("claims", ...)
    plan, csv = project.plan(), project.folder / "table1.csv"
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", csv)
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


def test_labels_are_texts_wherever_they_stand(project: Project) -> None:
    """Not HTML, marks of a table or, in a legend, a curve to hide."""
    odd = "_<script>alert(1)</script> | a & b"
    project.set("tables.table1", {"title": odd, "rows": {odd: "teacher"}})
    project.set("figures.figure3.curves", {odd: "teacher"})
    project.set("claims", ...)
    pretend(project)
    plan = project.plan()
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", Path("table1.csv"))
    assert "<script>" not in Path("table1.html").read_text()
    markdown = Path("table1.md").read_text()
    assert markdown.count(r"_&lt;script&gt;alert(1)&lt;/script&gt; \| a &amp; b") == 2
    assert pd.read_csv("table1.csv")["row"].tolist() == [odd]
    for axes in draw(project).axes[1:]:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [odd]


def test_nets_of_different_code_are_told(project: Project) -> None:
    pretend(project)
    assert warnings(project.plan(), "table1") == []
    run = project.plan().net("student/2")
    finish(run, {"engine": "1", "method": "0"})
    (warning,) = warnings(project.plan(), "table1")
    assert f"engine 1: {run.id}" in warning


def test_what_a_table_rests_on_is_told_too(project: Project) -> None:
    """A teacher that it does not show."""
    pretend(project)
    project.set("tables.table1.rows", {"Student*": "student"})
    project.set("claims", ...)
    finish(project.plan().net("teacher/1"), {"engine": "1", "method": "0"})
    (warning,) = warnings(project.plan(), "table1")
    assert f"engine 1: {project.plan().net('teacher/1').id}" in warning


def test_nets_of_different_kinds_of_machines_are_told(project: Project) -> None:
    """Also where a net was only finished on another one; in the table's files too."""
    pretend(project)
    run = project.plan().net("student/2")
    manifest = run.folder.read_manifest()
    other = manifest.attempts[0].model_copy(update={"precision": "bfloat16", "instructions": "AVX512", "threads": 2})
    run.folder.write_manifest(manifest.model_copy(update={"attempts": (*manifest.attempts, other)}))
    (warning,) = warnings(project.plan(), "table1")
    for text in ("precision: float32, but bfloat16 in", "threads: 1, but 2 in", "instructions: AVX2, but AVX512 in"):
        assert f"{text} {run.id}" in warning
    plan = project.plan()
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", Path("table1.csv"))
    for name in ("table1.md", "table1.html"):
        assert f"precision: float32, but bfloat16 in {run.id}" in Path(name).read_text()


def test_what_no_manifest_vouches_for_is_not_read(project: Project) -> None:
    """Cut, another net's, gone; nothing is made of it, and what to do is said."""
    pretend(project)
    run, other = project.plan().net("student/1"), project.plan().net("student/2")
    files = {file: file.read_bytes() for file in (run.folder.predictions, run.folder.metrics, run.folder.manifest)}
    again = r"Delete .*/student-1-\w+/manifest.json and make both again: snakemake .*/student-1-\w+/manifest.json"
    for damaged in (files[run.folder.predictions][:-100], other.folder.predictions.read_bytes(), None):
        run.folder.predictions.write_bytes(damaged) if damaged else run.folder.predictions.unlink()
        with pytest.raises(UserError, match=rf"student-1-\w+/predictions.npz: is gone, or not what .*{again}"):
            tables.make_table(project.plan(), "table1")
    run.folder.metrics.write_bytes(files[run.folder.metrics][:-20])
    with pytest.raises(UserError, match=rf"student-1-\w+/metrics.csv: is gone, or not what .*{again}"):
        curves.read_curves(project.plan(), "figure3")
    run.folder.manifest.write_bytes(other.folder.manifest.read_bytes())
    with pytest.raises(UserError, match=r"student-1-\w+/manifest.json: belongs to another run, student-2"):
        tables.make_table(project.plan(), "table1")
    run.folder.manifest.write_text("{")
    with pytest.raises(UserError, match=r"student-1-\w+/manifest.json: cannot be read"):
        tables.make_table(project.plan(), "table1")
    for file, content in files.items():
        file.write_bytes(content)
    tables.make_table(project.plan(), "table1")


def test_runs_that_do_not_belong_together_are_refused(project: Project) -> None:
    """Nets of different images in one row, and a net whose teacher has other weights by now."""
    pretend(project)
    run, stage1 = project.plan().net("student/1"), project.plan().net("student/1").stage1
    whole = run.folder.read_manifest()

    def made_from(**inputs: str) -> None:
        run.folder.write_manifest(whole.model_copy(update={"inputs_sha256": inputs}))

    check_finished(project.plan().shown({"Student": "student"}))
    made_from(data="other images")
    with pytest.raises(
        UserError, match=r"student-2-\w+ and .*student-1-\w+: were trained on different images, both from"
    ):
        check_finished(project.plan().shown({"Student": "student"}))
    made_from(start="other weights")
    with pytest.raises(
        UserError, match=rf"student-1-\w+: was made from other weights than those that .*{stage1.id} has"
    ):
        check_finished([run])
    made_from(start=stage1.folder.read_manifest().weights_sha256)
    check_finished([run])


def draw(project: Project, *measures: str) -> plt.Figure:
    read = curves.read_curves(project.plan(), "figure3")
    return curves.draw_figure("A title", read, curves.flat_parts(read, measures or curves.MEASURES))


def test_figure_shows_each_curve_and_is_the_same_again(project: Project) -> None:
    pretend(project)
    drawing = draw(project)
    loss, accuracy = drawing.axes
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["Teacher", "Student"]
    lines = [line for line in loss.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in lines] == [20, 8]
    curves.write(project.plan(), "figure3", project.folder / "a.png")
    curves.write(project.plan(), "figure3", project.folder / "b.png")
    assert (project.folder / "a.svg").read_bytes() == (project.folder / "b.svg").read_bytes()
    assert (project.folder / "a.png").read_bytes() == (project.folder / "b.png").read_bytes()


def test_figure_has_a_colour_for_each_of_many_curves(project: Project) -> None:
    project.set("claims", ...)
    pretend(project)
    project.set("figures.figure3.curves", {f"Curve {number}": "teacher/1" for number in range(12)})
    colors = {line.get_color() for line in draw(project).axes[1].lines if line.get_linestyle() == "-"}
    assert len(colors) == 12


def test_loss_curve_is_a_running_mean(project: Project) -> None:
    frame = pd.DataFrame({"iteration": range(1, 401), "loss": np.arange(400.0), "test_accuracy": np.nan})
    frame.to_csv("metrics.csv", index=False)
    curve = curves.read_curve(project.folder / "metrics.csv", 400)
    assert curve["smoothed_loss"].iloc[10] == np.mean([7, 8, 9, 10])


def test_a_line_is_the_mean_of_its_nets_and_the_band_reaches_to_the_outermost(project: Project) -> None:
    pretend(project)
    nets = project.plan().nets("teacher")
    for net, accuracy in zip(nets, (40.0, 60.0), strict=True):
        frame = pd.read_csv(net.folder.metrics).assign(test_accuracy=accuracy)
        measure(net, frame)
    _, axes = draw(project).axes
    assert set(axes.lines[0].get_ydata()) == {50}
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (40, 60)


def test_nets_that_stopped_at_different_iterations_are_drawn_at_the_same_ones(project: Project) -> None:
    """Of 400 iterations at most: smoothed over four, and means over the nets that are left."""
    project.set("schedules.long", [{"until": 400, "rate": 0.1}])
    project.set("figures.figure3.curves", {"Teacher": "teacher"})
    project.set("claims", ...)
    pretend(project)
    for net, length, loss in zip(project.plan().nets("teacher"), (399, 103), (2.0, 4.0), strict=True):
        frame = pd.read_csv(net.folder.metrics)[:length].assign(loss=loss, test_accuracy=np.nan)
        frame.loc[19::20, "test_accuracy"] = loss
        measure(net, frame)
    losses, accuracies = draw(project).axes
    drawn = dict(losses.lines[0].get_xydata())
    assert drawn == {x: 3.0 if x <= 103 else 2.0 for x in range(4, 397, 4)}
    assert dict(accuracies.lines[0].get_xydata()) == {x: 3.0 if x <= 103 else 2.0 for x in range(20, 399, 20)}
    (one, two) = curves.read_curves(project.plan(), "figure3")["Teacher"]
    assert [curves.flat_from(*curve, "test accuracy") for curve in (one, two)] == [20, 20]


def test_flat_part_begins_where_the_loss_comes_near_its_level(project: Project) -> None:
    pretend(project)
    project.set("schedules.long", [{"until": 400, "rate": 0.1}, {"until": 500, "rate": 0.01}])
    project.set("figures.figure3.curves", {"Teacher": "teacher"})
    project.set("claims", ...)
    plan = project.plan()
    for number, reached in ((1, 100), (2, 200)):
        net = plan.net(f"teacher/{number}")
        finish(net)
        loss = np.where(np.arange(1, 501) < reached, 2.0, 1.0)
        loss[400:] = 0.1  # at the second rate, which says nothing
        frame = pd.DataFrame({"iteration": range(1, 501), "loss": loss, "test_accuracy": np.nan})
        frame.loc[19::20, "test_accuracy"] = np.where(loss[19::20] > 1, 30.0, 50.0)
        measure(net, frame)
    read = curves.read_curves(plan, "figure3")["Teacher"]
    window = 500 // curves.POINTS
    loss = [curves.flat_from(net, curve, "training loss") for net, curve in read]
    assert loss == [100 + window - 1, 200 + window - 1]  # when the whole window is past the step
    assert [curves.flat_from(net, curve, "test accuracy") for net, curve in read] == [100, 200]
    untested = read[0][1].assign(test_accuracy=np.nan)
    assert np.isnan(curves.flat_from(read[0][0], untested, "test accuracy"))


def test_replicates_give_means_and_students_interval(project: Project) -> None:
    project.set("replicates", 3)
    pretend(project)
    worse = project.plan().net("teacher/1", 2)
    predict(worse, torch.zeros(4, 3), LABELS)  # right about one image
    plan, csv = project.plan(), project.folder / "table1.csv"
    table = tables.make_table(plan, "table1").set_index("row")
    averages = [75, (25 + 75) / 2, 75]
    assert table.loc["Teacher", "average"] == pytest.approx(np.mean(averages))
    half = stats.t.ppf(0.975, 2) * np.std(averages, ddof=1) / np.sqrt(3)
    assert table.loc["Teacher", "average_ci95"] == pytest.approx(half)
    assert table["n"].tolist() == [3, 3, 3]
    assert table.loc["Teacher", "iterations"] == 40
    tables.write_table(table.reset_index(), plan, "table1", csv)
    assert f"66.67 ± {half:.2f} (91.75)" in csv.with_suffix(".md").read_text()
    assert "75.00 ± 0.00" in csv.with_suffix(".md").read_text()


def test_intervals_over_nets_are_from_the_spread_within_all_rows(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("claims", ...)
    project.set("rows.student.stage1_shared", False)
    rows = {"Teacher": "teacher", "Again": "teacher", "One": "teacher/1", "FitNet": "fitnet", "Student*": "student"}
    project.set("tables.table1", {"title": "T", "rows": rows, "intervals": "nets"})
    pretend(project)
    plan, csv = project.plan(), project.folder / "table1.csv"
    accuracies = {"teacher/1": 3, "teacher/2": 1, "fitnet/1": 2, "student/1": 4, "student/2": 3}  # quarters
    for net, right in accuracies.items():
        predict(plan.net(net), 9.0 * torch.nn.functional.one_hot((LABELS + (torch.arange(4) >= right)) % 3, 3), LABELS)
    table = tables.make_table(plan, "table1").set_index("row")
    assert table["average"].tolist() == [50, 50, 75, 50, 87.5]
    squares, freedom, quantile = 2 * 25**2 + 2 * 12.5**2, 2, 4.302653  # rows of one net, and a row again, add nothing
    halves = [quantile * np.sqrt(squares / freedom / nets) for nets in (2, 2, 1, 1, 2)]
    assert table["average_ci95"].tolist() == pytest.approx(halves, rel=1e-6)
    assert [column for column in table if column.endswith("_ci95")] == ["average_ci95"]
    tables.write_table(table.reset_index(), plan, "table1", csv)
    assert f"50.00 ± {halves[0]:.2f}" in csv.with_suffix(".md").read_text()
    assert "± half a 95 % interval for other nets" in csv.with_suffix(".html").read_text()
    assert "average_ci95" not in tables.make_table(plan, "table1", ["Teacher"])  # of a row whose table is not there yet


def test_figure_of_first_stages_has_their_losses_alone(project: Project) -> None:
    project.set("claims", ...)
    project.set(
        "figures.figure3", {"kind": "curves", "title": "T", "stage": 1, "curves": {"A": "fitnet", "B": "student"}}
    )
    plan = project.plan()
    for run in plan.phase("stage1"):
        finish(run)
        loss = np.where(np.arange(1, 11) < 3, 2.0, 1.0)
        frame = pd.DataFrame({"iteration": range(1, 11), "loss": loss, "test_accuracy": np.nan})
        measure(run, frame)
    csv = project.folder / "figure3.csv"
    curves.write(plan, "figure3", csv.with_suffix(".png"))
    (axes,) = draw(project, "training loss").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", "B"]
    numbers = pd.read_csv(csv)
    assert list(numbers) == ["iteration", "A: training loss", "B: training loss"]
    assert numbers["B: training loss"].tolist() == [2, 2] + [1] * 8
    flat = pd.read_csv("figure3_flat.csv")
    assert flat["net"].tolist() == [plan.net(net).stage1.id for net in ("fitnet/1", "student/1")]
    assert flat["iteration"].tolist() == [3, 3]
    needed = ResultRule(plan, "figure", "figure3").inputs()
    assert needed["metrics"] == [str(run.folder.metrics) for run in plan.phase("stage1")]
    assert needed["manifests"] == [str(run.folder.manifest) for run in plan.phase("stage1")]


def test_table_without_a_reference_and_of_single_nets(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.reference", ...)
    project.set("tables.table1.rows", {"Teacher": "teacher/2", "Student*": "student/1"})
    project.set("claims", ...)
    plan, csv = project.plan(), project.folder / "table1.csv"
    table = tables.make_table(plan, "table1")
    tables.write_table(table, plan, "table1", csv)
    assert table.set_index("row").to_dict("list") == {"accuracy": [75, 75], "iterations": [20, 18]}
    assert "75.00 |" in csv.with_suffix(".md").read_text()


def metrics(results: Path) -> dict[str, dict[str, float]]:
    """What files of table1's metrics hold, by their names, in the order in which DVC lists them."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((results / "metrics/table1").glob("*"))}


def test_metrics_are_a_file_for_each_row_that_the_table_has_now(project: Project) -> None:
    """Also of rows whose labels no file can be called by; the others are the rows before, in another order."""
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
        tables.write_table(tables.make_table(plan, "table1"), plan, "table1", Path("results/tiny/table1.csv"))
        assert list(metrics(Path("results/tiny"))) == names
    assert metrics(Path("results/tiny"))["02 Student*†"] == accuracy


def test_metrics_of_many_rows_are_listed_in_their_order(project: Project) -> None:
    pretend(project)
    project.set("claims", ...)
    project.set("tables.table1.reference", ...)
    labels = [f"{100 - number} of a hundred" for number in range(100)]
    project.set("tables.table1.rows", dict.fromkeys(labels, "teacher/1"))
    plan = project.plan()
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", Path("results/tiny/table1.csv"))
    assert [name.partition(" ")[2] for name in metrics(Path("results/tiny"))] == labels


ERRORS = """\
row,parameters,error
Teacher,361000,0.55
Student,30000,1.9
Maxout,,0.45
"Deep, supervised",,0.39
"""


def errors(project: Project, **rows: str) -> Plan:
    """The tiny preset with its table as one of errors, and with rows that are only quoted."""
    Path("config/tiny/errors.csv").write_text(ERRORS)
    table = {"title": "T", "reference": "tiny/errors.csv", "measure": "error", "quoted": ["Maxout", "Deep, supervised"]}
    project.set("tables.table1", {**table, "rows": rows})
    return project.plan()


def test_errors_and_quoted_rows(project: Project) -> None:
    """A paper's one number a row stands beside our average."""
    project.set("claims", ...)
    plan, csv = errors(project, Student="student", Teacher="teacher/1"), project.folder / "table1.csv"
    pretend(project)
    predict(plan.net("student/2"), torch.zeros(4, 3), LABELS)  # wrong about three of four
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", csv)
    table = pd.read_csv(csv).set_index("row")
    assert list(table) == ["net1", "net2", "average", "average_published", "ensemble", "iterations", "quoted"]
    assert table.loc["Student"].tolist()[:4] == [25, 75, 50, 1.9]
    assert table.loc["Teacher", ["net1", "average", "average_published"]].tolist() == [25, 25, 0.55]
    assert list(table.index[2:]) == ["Maxout", "Deep, supervised"]
    assert table["quoted"].tolist() == [False, False, True, True]
    assert table.loc["Maxout"].dropna().to_dict() == {"average_published": 0.45, "quoted": True}
    assert "Student,25.00,75.00,50.00,1.90,25.00,26,False\n" in csv.read_text()
    assert metrics(project.folder) == {
        "01 Student": {"net1": 25, "net2": 75, "average": 50, "ensemble": 25, "iterations": 26},
        "02 Teacher": {"net1": 25, "average": 25, "ensemble": 25, "iterations": 20},
    }
    for end, cell in ((".md", "– (0.45) |"), (".tex", "& -- (0.45) &"), (".html", "<td>– (0.45)</td>")):
        text = csv.with_suffix(end).read_text()
        assert "Maxout (quoted)" in text
        assert cell in text


def test_single_nets_have_a_column_of_errors(project: Project) -> None:
    project.set("claims", ...)
    project.set("replicates", 2)
    plan, csv = errors(project, Student="student/1", Teacher="teacher/1"), project.folder / "table1.csv"
    pretend(project)
    predict(plan.net("student/1", 2), torch.zeros(4, 3), LABELS)
    table = tables.make_table(plan, "table1")
    tables.write_table(table, plan, "table1", csv)
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
        with pytest.raises(
            UserError, match=rf"value = '{value}': what table 'table1' .* shows is {table}. Name {named}"
        ):
            project.plan()


def test_published_numbers_have_one_line_a_label(project: Project) -> None:
    Path("config/tiny/twice.csv").write_text("row,mark,average\nTeacher,,1\nStudent,*,2\nStudent*,,3\n")
    project.set("tables.table1.reference", "tiny/twice.csv")
    with pytest.raises(
        UserError, match=r"config/tiny/twice.csv: row = 'Student\*': is there twice. Tell the two apart"
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


def judged(project: Project) -> pd.DataFrame:
    plan = project.plan()
    curves.write(plan, "figure3", Path("results/tiny/figure3.png"))
    row = {
        "what": "speed-up of Student* over three teachers, on the fly",
        "value": 2.0,
        "published": 1.78,
        "unit": "times",
    }
    frame = pd.DataFrame([{**row, "low": 1.7, "high": 2.3, "rounds": 5, "device": "cpu"}])
    frame.to_csv("results/tiny/timing.csv", index=False)
    return judge(plan)


def test_claims_compare_what_tables_show(project: Project) -> None:
    pretend(project)
    claims = judged(project)
    assert claims["published"].tolist() == pytest.approx([92.14 - 91.75, 93.26 - 92.14 - (93.48 - 91.75), 3, 1.78])
    assert claims["ours"].tolist() == pytest.approx([0, 0, 1, 2])
    assert claims["threshold"].tolist() == pytest.approx([0, 0, 2, 1.691])
    # The students share a stage 1, and all learn from one of the teachers: they say nothing of other ones.
    assert claims["n"].tolist() == [1, 1, 1, 5]
    verdicts = ["undecided at n = 1", "undecided at n = 1", "undecided at n = 1", "reproduced"]
    assert claims["verdict"].tolist() == verdicts


def test_nets_are_seeds_where_they_share_nothing(project: Project) -> None:
    """Unpaired, however many a row has; about equal where the whole interval is within the margin."""
    project.set("rows.short", {**project.content["rows"]["teacher"], "nets": 3})
    project.set("tables.table1.rows.Short", "short")
    claim = {
        "compare": "rows",
        "table": "table1",
        "value": "average",
        "more": "Short",
        "less": "Teacher",
        "within": 40.0,
    }
    project.claims_path.write_text(yaml.safe_dump({"claims": [{"claim": "a", "where": "here", **claim}]}))
    pretend(project)
    judged = judge(project.plan()).iloc[0]
    assert (judged["n"], judged["ours"], judged["has_to_be"], judged["threshold"]) == (2, 0, "within", 40)
    assert judged["p"] == judged["p_holm"]


def test_nets_are_pairs_with_what_each_alone_learns_from(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("rows.student.stage1_shared", False)
    project.set("rows.student.stage1.teacher", "teacher")
    project.claims_path.write_text(yaml.safe_dump({"claims": [{"claim": "a", "where": "here", **CLAIMS[0]}]}))
    pretend(project)
    for number, wrong in ((1, 100), (2, 400)):  # how many images a teacher is wrong about; its student is about 50 more
        for row, more in (("teacher", 0), ("student", 50)):
            labels = torch.arange(1000) % 3
            guesses = torch.where(torch.arange(1000) < wrong + more, (labels + 1) % 3, labels)
            predict(
                project.plan().net(f"{row}/{number}"), 9.0 * torch.nn.functional.one_hot(guesses, 3).float(), labels
            )
    claim = judge(project.plan()).iloc[0]
    assert (claim["n"], claim["ours"]) == (2, pytest.approx(-5))
    assert claim["high"] < 0  # the differences are the same, however much the pairs differ


def test_claims_about_what_is_not_there_are_not_run(project: Project) -> None:
    project.set("replicates", 2)
    pretend(project)
    assert judged(project)["n"].tolist() == [2, 2, 2, 5]
    project.plan().net("student/1", 2).folder.manifest.unlink()
    assert judged(project)["n"].tolist()[:2] == [1, 1]
    project.plan().net("student/2", 1).folder.manifest.unlink()
    Path("results/tiny/timing.csv").unlink()
    claims = judge(project.plan())
    assert claims["n"].tolist()[:2] == [0, 0]
    assert claims["verdict"].tolist()[::3] == ["not run", "not run"]


def test_replicates_are_compared_in_pairs(project: Project) -> None:
    """With a difference that is the same in each replicate, but replicates that differ much."""
    project.set("replicates", 3)
    pretend(project)
    labels = torch.arange(2000) % 3
    for replicate in (1, 2, 3):
        for row, wrong in (("teacher", 300 * replicate + 60), ("student", 300 * replicate)):
            for net in project.plan().nets(row, replicate):
                guesses = torch.where(torch.arange(2000) < wrong, (labels + 1) % 3, labels)
                logits = 9.0 * torch.nn.functional.one_hot(guesses, 3).float()
                predict(net, logits, labels)
    claim = judged(project).iloc[0]
    assert claim["ours"] == pytest.approx(3)
    assert claim["n"] == 3
    assert claim["verdict"] == "reproduced"
