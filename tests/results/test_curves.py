"""Figures of curves, and where these become flat, from known measurements."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, Project
from finished import finish, measure
from pretended import pretend

from fspkd.report import curves, figures, tables
from fspkd.report.labelled import read_labelled
from fspkd.report.pictures import draw_table
from fspkd.tracking.follow import FOLLOWED
from fspkd.workflow.results import ResultRule


def draw(project: Project) -> plt.Figure:
    return curves.draw("A title", curves.read(project.plan(), "figure3"))


def test_figure_shows_each_curve_and_is_the_same_again(project: Project) -> None:
    pretend(project)
    drawing = draw(project)
    loss, accuracy = drawing.axes
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["Teacher", "Student"]
    lines = [line for line in loss.lines if line.get_linestyle() == "-"]
    assert [len(line.get_xdata()) for line in lines] == [20, 8]
    files = [figures.write(project.plan(), "figure3").with_suffix(end) for end in (".png", ".svg")]
    first = [file.read_bytes() for file in files]
    figures.write(project.plan(), "figure3")
    assert [file.read_bytes() for file in files] == first


def test_figure_does_not_depend_on_a_users_matplotlibrc(project: Project) -> None:
    pretend(project)
    png = figures.write(project.plan(), "figure3")
    expected = png.read_bytes()
    Path("matplotlibrc").write_text("text.usetex: True\nfont.size: 30\n")  # the first that matplotlib looks for
    ended = project.run("python", str(REPOSITORY / "scripts/make_figure.py"), str(png), **{FOLLOWED: "1"})
    assert ended.returncode == 0, ended.stderr
    assert png.read_bytes() == expected


def test_figure_has_a_colour_for_each_of_many_curves(project: Project) -> None:
    project.set("claims", ...)
    pretend(project)
    project.set("figures.figure3.curves", {f"Curve {number}": "teacher/1" for number in range(12)})
    colors = {line.get_color() for line in draw(project).axes[1].lines if line.get_linestyle() == "-"}
    assert len(colors) == 12


def test_loss_curve_is_a_running_mean() -> None:
    frame = pd.DataFrame({"iteration": range(1, 401), "loss": np.arange(400.0), "test_accuracy": np.nan})
    curve = curves.smoothed(frame.set_index("iteration"), 400)
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
    """For 400 iterations at most: smoothed over four, and means over the nets still training."""
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
        loss[400:] = 0.1  # at the second rate, which is ignored
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


def test_figure_of_first_stages_has_their_losses_alone(project: Project) -> None:
    project.set("claims", ...)
    project.set(
        "figures.figure3", {"kind": "curves", "title": "T", "stage": 1, "curves": {"A": "fitnet", "B": "student"}}
    )
    plan = project.plan()
    first_stages = [run for run in plan.runs.values() if run.phase == "stage1"]
    for run in first_stages:
        finish(run)
        loss = np.where(np.arange(1, 11) < 3, 2.0, 1.0)
        frame = pd.DataFrame({"iteration": range(1, 11), "loss": loss, "test_accuracy": np.nan})
        measure(run, frame)
    csv = figures.write(plan, "figure3").with_suffix(".csv")
    (axes,) = draw(project).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A", "B"]
    numbers = pd.read_csv(csv)
    assert list(numbers) == ["iteration", "A: training loss", "B: training loss"]
    assert numbers["B: training loss"].tolist() == [2, 2] + [1] * 8
    flat = pd.read_csv("results/tiny/figure3_flat.csv")
    assert flat["net"].tolist() == [plan.net(net).stage1.id for net in ("fitnet/1", "student/1")]
    assert flat["iteration"].tolist() == [3, 3]
    needed = ResultRule(plan, "figure", "figure3").inputs()
    assert needed["metrics"] == [str(run.folder.metrics) for run in first_stages]
    assert needed["manifests"] == [str(run.folder.manifest) for run in first_stages]


def test_a_ratio_stands_beside_what_is_published_of_the_same_two_curves(project: Project) -> None:
    pretend(project)
    figures.write(project.plan(), "figure3")
    assert curves.on_page(project.plan(), "figure3")[1]["published"].tolist() == ["about 3", "–"]
    drawn = project.plan().curves("figure3").items()
    flat = [("training loss", label, net.id, 20 if label == "Teacher" else 10) for label, nets in drawn for net in nets]
    pd.DataFrame(flat, columns=["measure", "curve", "net", "iteration"]).to_csv(
        "results/tiny/figure3_flat.csv", index=False
    )
    row = curves.on_page(project.plan(), "figure3")[1].iloc[0]
    assert row[["Teacher: flat from", "Student: flat from", "Teacher / Student"]].tolist() == ["20", "10", "2.00"]
    project.set("figures.figure3.curves", {"Student": "student", "Teacher": "teacher"})
    figures.write(project.plan(), "figure3")
    assert curves.on_page(project.plan(), "figure3")[1]["published"].tolist() == ["–", "–"]


@pytest.mark.parametrize(
    ("first", "second"), [("None", "NA"), ("null", "nan"), ("8", "20"), ("1.0", "2.50"), ("True", "no")]
)
def test_labels_may_be_numbers_and_words_for_what_is_missing(project: Project, first: str, second: str) -> None:
    project.set("tables.table1", {"title": "T", "rows": {first: "teacher", second: "student"}})
    project.set("figures.figure3.curves", {first: "teacher", second: "student"})
    project.set("claims", ...)
    pretend(project)
    plan = project.plan()
    axes = draw_table(read_labelled(tables.write(plan, "table1")), "T", "%").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [first, second]
    figures.write(plan, "figure3")
    flat = curves.on_page(plan, "figure3")[1].filter(like="flat from")
    assert [*flat] == [f"{first}: flat from", f"{second}: flat from"]


def test_labels_are_texts_wherever_they_stand(project: Project) -> None:
    """Not HTML, table markup or, in a legend, a curve to hide."""
    odd = "_<script>alert(1)</script> | a & b"
    project.set("tables.table1", {"title": odd, "rows": {odd: "teacher"}})
    project.set("figures.figure3.curves", {odd: "teacher"})
    project.set("claims", ...)
    pretend(project)
    csv = tables.write(project.plan(), "table1")
    assert "<script>" not in csv.with_suffix(".html").read_text()
    markdown = csv.with_suffix(".md").read_text()
    assert markdown.count(r"_&lt;script&gt;alert(1)&lt;/script&gt; \| a &amp; b") == 2
    assert pd.read_csv(csv)["row"].tolist() == [odd]
    for axes in draw(project).axes[1:]:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == [odd]
