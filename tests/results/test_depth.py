"""Accuracy over depth: the points, the drawing, and claims about them, from known predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import Project
from finished import finish, predict

from fspkd.errors import UserError
from fspkd.report import depth, figures
from fspkd.report.claims import judge, shown_claims
from fspkd.report.points import measured_points
from fspkd.report.reproduction import recompute
from fspkd.report.summary import summary
from fspkd.workflow.results import ResultRule

LABELS = torch.arange(60) % 3  # three classes, so that a net that is right about fewer than 40 has failed
PUBLISHED = """\
panel,method,layers,accuracy
thin,alone,8,91.5
thin,taught,14,93
wide,alone,8,99
"""
# Multiplications for 8x8 images of one channel: the stem, then two convolutions per module in maps of 8x8, 4x4 and 2x2.
EIGHT = 9 * (64 * 4 + 64 * 2 * 16 + 16 * (32 + 64) + 4 * (128 + 256)) + 16 * 3
FOURTEEN = EIGHT + 9 * (64 * 2 * 16 + 16 * 2 * 64 + 4 * 2 * 256)


def answer(project: Project, row: str, *right: int) -> None:
    """Make each net of a row, in all replicates, right about that many of the 60 images."""
    for net, number in zip(project.plan().nets(row), right, strict=True):
        finish(net)
        guesses = torch.where(torch.arange(60) < number, LABELS, (LABELS + 1) % 3)
        predict(net, 9.0 * torch.nn.functional.one_hot(guesses, 3).float(), LABELS)


@pytest.fixture
def deep(project: Project) -> Project:
    """Rows of nets of 8 and 14 layers, alone and taught, in a figure; tests choose which nets are trained."""
    alone = {"data": "images", "nets": 2, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    taught = {**alone, "stage2": {"method": "kd", "teacher": "teacher/1", "schedule": "short"}}
    project.content["networks"]["deeper"] = {"architecture": "cifar_resnet", "depth": 14, "width": 4}
    for name, row, network in (
        ("alone8", alone, "net"), ("alone14", alone, "deeper"), ("taught8", taught, "net"), ("taught14", taught, "deeper"),
    ):  # fmt: skip
        project.content["rows"][name] = {**row, "network": network}
    lines = {"alone": ["alone8", "alone14"], "taught": ["taught8", "taught14"]}
    figure = {"kind": "depth", "title": "Depth", "reference": "tiny/depth.csv", "panels": {"thin": lines}}
    Path("config/tiny/depth.csv").write_text(PUBLISHED)
    project.content |= {"tables": {}, "timings": {}, "claims": None, "figures": {"figure2": figure}}
    project.write()
    return project


def judged(project: Project, *claims: dict[str, object]) -> pd.DataFrame:
    claims = [{"claim": str(n), "where": "here", "figure": "figure2", **claim} for n, claim in enumerate(claims)]
    project.claims_path.write_text(yaml.safe_dump({"claims": claims}))
    project.set("claims", "tiny/claims.yaml")
    return judge(project.plan())


def test_csv_has_a_line_for_each_net(deep: Project) -> None:
    answer(deep, "alone8", 60, 54)
    answer(deep, "alone14", 39, 20)
    answer(deep, "taught8", 48, 42)
    answer(deep, "taught14", 57, 20)
    png = figures.write(deep.plan(), "figure2")
    frame = pd.read_csv(png.with_suffix(".csv"))
    assert list(frame) == ["panel", "method", "layers", "multiplications", "net", "accuracy", "learned", "published"]
    assert set(frame["panel"]) == {"thin"}
    nets = [net.id for row in ("alone8", "alone14", "taught8", "taught14") for net in deep.plan().nets(row)]
    assert frame["net"].tolist() == nets
    assert frame["method"].tolist() == ["alone"] * 4 + ["taught"] * 4
    assert frame["layers"].tolist() == [8, 8, 14, 14] * 2
    assert frame["multiplications"].tolist() == [EIGHT, EIGHT, FOURTEEN, FOURTEEN] * 2
    assert frame["accuracy"].tolist() == pytest.approx([100, 90, 65, 100 / 3, 80, 70, 95, 100 / 3], rel=1e-5)
    assert frame["learned"].tolist() == [True, True, False, False, True, True, True, False]
    assert frame["published"].tolist() == pytest.approx([91.5, 91.5, *[np.nan] * 4, 93, 93], nan_ok=True)
    first = {file: file.read_bytes() for file in png.parent.glob("figure2*")}
    figures.write(deep.plan(), "figure2")
    assert {file: file.read_bytes() for file in png.parent.glob("figure2*")} == first
    assert {file.name for file in first} == {"figure2.png", "figure2.svg", "figure2.csv"}


def test_nets_that_failed_are_crosses_that_no_line_joins(deep: Project) -> None:
    answer(deep, "alone8", 60, 54)
    answer(deep, "alone14", 39, 20)
    answer(deep, "taught8", 48, 42)
    answer(deep, "taught14", 57, 20)
    drawing = depth.draw("A title", measured_points(deep.plan(), "figure2"))
    (axes,) = drawing.axes
    lines = {
        (line.get_linestyle(), line.get_marker()): line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 1
    }
    assert lines["-", "o"] == pytest.approx([95, np.nan], nan_ok=True)
    assert lines["-", "s"] == pytest.approx([75, 95])  # of those that learnt
    bars = [segment[:, 1].tolist() for of_line in axes.collections for segment in of_line.get_segments()]
    assert bars[0] == [90, 100]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [round(float(line.get_xdata()[0])) for line in crosses] == [14, 14]
    assert all(line.get_ydata()[0] < 200 / 3 for line in crosses)
    assert [text.get_text() for text in axes.texts] == ["1 of 2"]
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == [
        "alone",
        "taught",
        "published",
        "failed to learn",
    ]
    assert "crosses: nets that failed to learn" in drawing.get_suptitle().replace("\n", " ")


def test_where_all_nets_learn_nothing_is_said_of_failures(deep: Project) -> None:
    deep.set("figures.figure2.reference", None)
    for row in ("alone8", "alone14", "taught8", "taught14"):
        answer(deep, row, 60, 60)
    drawing = depth.draw("A title", measured_points(deep.plan(), "figure2"))
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == ["alone", "taught"]
    assert "failed" not in drawing.get_suptitle()
    assert not [line for line in drawing.axes[0].lines if line.get_marker() == "x"]


def test_files_that_a_figure_and_claims_are_made_of(deep: Project) -> None:
    inputs = ResultRule(deep.plan(), "figure", "figure2").inputs()
    nets = [net for row in ("alone8", "alone14", "taught8", "taught14") for net in deep.plan().nets(row)]
    assert inputs["predictions"] == [str(net.folder.predictions) for net in nets]
    assert inputs["reference"] == ["config/tiny/depth.csv"]
    assert "metrics" not in inputs
    deep.set("figures.curves", {"kind": "curves", "title": "T", "curves": {"A": "alone8"}})
    deep.set("claims", "tiny/claims.yaml")
    deep.claims_path.write_text(
        "claims: [{claim: x, where: y, compare: points, figure: figure2, more: alone8, less: alone14}]"
    )
    claims = ResultRule(deep.plan(), "claims").inputs()
    assert claims["measured"] == ["results/tiny/curves_flat.csv"]
    assert claims["references"] == ["config/tiny/depth.csv"]
    assert claims["predictions"] == inputs["predictions"]


def test_summary_and_what_is_recomputed_show_the_points(deep: Project) -> None:
    answer(deep, "alone8", 60, 54)
    answer(deep, "alone14", 20, 20)
    answer(deep, "taught8", 48, 42)
    assert [path.name for path in recompute(deep.plan())] == ["nets.csv"]  # a point is missing
    answer(deep, "taught14", 57, 20)
    assert [path.name for path in recompute(deep.plan())] == ["figure2.png", "nets.csv"]
    page = summary(deep.plan()).decode()
    for text in ("95.00 (91.50)", "failed", "95.00 (1 of 2 failed) (93.00)", f"{EIGHT:,}", "data:image/svg+xml"):
        assert text in page


def test_points_are_compared_as_rows_are(deep: Project) -> None:
    """By net if nets share nothing; the published difference is that of the points, or the one in the text."""
    answer(deep, "alone8", 57, 54)
    answer(deep, "alone14", 48, 45)
    answer(deep, "taught8", 30, 33)
    answer(deep, "taught14", 60, 57)
    claims = judged(
        deep,
        {"compare": "points", "more": "alone8", "less": "alone14", "more_than": -5},
        {"compare": "points", "more": "taught14", "less": "alone8", "published": 4.1},
        {"compare": "points", "more": "taught14", "less": "alone8", "within": 40},
    )
    assert claims["ours"].tolist() == pytest.approx([15, 5, 5])
    assert claims["published"].tolist() == pytest.approx([np.nan, 4.1, 1.5], nan_ok=True)
    assert claims["threshold"].tolist() == [-5, 0, 40]
    assert claims["has_to_be"].tolist() == ["above", "above", "within"]
    assert claims["n"].tolist() == [2, 1, 1]  # nets of one teacher say nothing about others
    assert claims["verdict"].tolist()[1:] == ["undecided at n = 1"] * 2


def test_a_point_above_another_is_judged_both_ways(deep: Project) -> None:
    for row in ("alone8", "alone14"):
        deep.content["rows"][row]["nets"] = 5
    deep.write()
    answer(deep, "alone8", 57, 57, 56, 57, 57)
    answer(deep, "alone14", 45, 44, 45, 45, 46)
    for more, less, expected in (("alone8", "alone14", "reproduced"), ("alone14", "alone8", "not reproduced")):
        claim = judged(deep, {"compare": "points", "more": more, "less": less}).iloc[0]
        assert (claim["n"], claim["verdict"]) == (5, expected)


def test_learning_is_judged_by_the_median_net_both_ways(deep: Project) -> None:
    """Eight of eight nets are on one side of the threshold by chance once in 128 times, whichever side that is."""
    for row in ("alone8", "alone14"):
        deep.content["rows"][row]["nets"] = 8
    deep.write()
    answer(deep, "alone8", *[60, 59, 58, 57, 56, 55, 54, 53])
    answer(deep, "alone14", *[20] * 8)
    claims = judged(
        deep,
        {"compare": "learning", "nets": ["alone8"], "learn": True},
        {"compare": "learning", "nets": ["alone14"], "learn": False},
        {"compare": "learning", "nets": ["alone8", "alone14"], "learn": True},
        {"compare": "learning", "nets": ["alone8", "alone14"], "learn": False},
    )
    p = 2 * 0.5**8
    assert claims["p"].tolist() == pytest.approx([p, p, 2 * p, 2 * p])  # doubled where one of two rows contradicts
    assert claims["verdict"].tolist() == ["reproduced", "reproduced", "not reproduced", "not reproduced"]
    farthest = [100 * 56.5 / 60, 100 / 3, 100 / 3, 100 * 56.5 / 60]  # from what is claimed
    assert claims["ours"].tolist() == pytest.approx(farthest)
    assert claims["threshold"].tolist() == pytest.approx([200 / 3] * 4)
    assert claims["published"].tolist() == pytest.approx([91.5, np.nan, np.nan, 91.5], nan_ok=True)
    assert claims["n"].tolist() == [8] * 4
    assert shown_claims(claims)["has to be"].tolist() == ["at least 66.67", "below 66.67"] * 2
    assert shown_claims(claims)["ours"].tolist()[0] == "94.17 %"


def test_learning_is_undecided_where_nets_are_few_related_or_of_both_kinds(deep: Project) -> None:
    answer(deep, "alone8", 60, 60)
    deep.content["rows"]["taught8"]["nets"] = 8
    deep.content["rows"]["alone14"]["nets"] = 8
    deep.write()
    answer(deep, "taught8", *[60] * 8)
    answer(deep, "alone14", *[60] * 4, *[20] * 4)
    rows = ("alone8", "taught8", "alone14", "taught14")
    claims = judged(deep, *[{"compare": "learning", "nets": [row], "learn": True} for row in rows])
    assert claims["n"].tolist() == [2, 1, 8, 0]  # all of one teacher are one seed
    verdicts = ["undecided at n = 2", "undecided at n = 1", "undecided at n = 8", "not run"]
    assert claims["verdict"].tolist() == verdicts
    assert claims["p"].tolist() == pytest.approx([np.nan, np.nan, 1, np.nan], nan_ok=True)
    deep.plan().net("alone8/1").folder.manifest.unlink()
    deep.set("replicates", 2)
    answer(deep, "alone14", *[60] * 8, *[20] * 8)
    deep.plan().net("alone14/1").folder.manifest.unlink()
    claims = judged(deep, *[{"compare": "learning", "nets": [row], "learn": True} for row in ("alone8", "alone14")])
    assert claims["n"].tolist() == [0, 8]  # from the complete replicate


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("compare: points, figure: figure2, more: alone9, less: alone14", r"more = 'alone9': .* did you mean 'alone8'"),
        ("compare: learning, figure: figure2, nets: [alone8, other], learn: true", r"nets.1 = 'other': preset 'tiny'"),
        ("compare: learning, figure: figure2, nets: [], learn: true", r"claims.0.nets = \[\]: must not be empty.$"),
        (
            "compare: figure, figure: figure2, measure: test accuracy, later: a, earlier: b, published: 3, more_than: 2",
            r"figure = 'figure2': has kind depth in preset 'tiny', but compare: figure needs kind curves",
        ),
        ("compare: points, figure: figure9, more: a, less: b", r"figure = 'figure9': .* did you mean 'figure2'"),
    ],
)
def test_mistakes_in_claims_about_points_are_refused(deep: Project, claim: str, message: str) -> None:
    deep.set("claims", "tiny/claims.yaml")
    deep.claims_path.write_text(f"claims: [{{claim: x, where: y, {claim}}}]")
    with pytest.raises(UserError, match=message):
        deep.plan()


def test_points_on_other_data_are_refused(deep: Project) -> None:
    deep.content["data"]["others"] = {"name": "others", "source": "imagefolder", "path": "x"}
    deep.set("rows.alone14.data", "others")
    with pytest.raises(
        UserError, match=r"figures.figure2.panels: has rows on images, others, but only those on one data"
    ):
        deep.plan()
