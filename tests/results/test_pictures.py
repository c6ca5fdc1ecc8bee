"""Pictures of tables and claims, drawn from numbers that are known."""

import pandas as pd
import pytest

from fspkd.report.pictures import draw_claims, draw_table

TABLE = pd.DataFrame(
    {
        "row": ["Teacher", "Student*"],
        "net1": [90.0, 92.0],
        "net2": [91.0, None],
        "average": [90.5, 92.0],
        "average_ci95": [1.5, 1.0],
        "ensemble": [93.0, None],
        "average_published": [91.75, 92.14],
        "ensemble_published": [None, None],
    }
)


def marks(axes: object) -> dict[str, list[float]]:
    """The marked values, by their legend label."""
    found: dict[str, list[float]] = {}
    for line in axes.lines:
        found.setdefault(line.get_label(), []).extend(x for x in line.get_xdata() if x == x)
    return found


def test_a_table_shows_each_of_its_values() -> None:
    axes = draw_table(TABLE, "A table", "test accuracy in percent").axes[0]
    found = marks(axes)
    assert found["nets"] == [90.0, 92.0]
    assert [91.0] in found.values()  # the second nets
    assert (found["average"], found["ensemble"], found["published"]) == ([90.5, 92.0], [93.0], [91.75, 92.14])
    assert "published ensemble" not in found
    intervals = [(start[0], end[0]) for start, end in axes.collections[0].get_segments()]
    assert intervals == [(89.0, 92.0), (91.0, 93.0)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Teacher", "Student*"]


def test_equal_nets_are_seen_and_marks_explained() -> None:
    table = pd.DataFrame({"row": ["A*"], "net1": [90.0], "net2": [90.0], "net3": [90.0], "average": [90.0]})
    axes = draw_table(table, "T", "accuracy in percent", "*: short").axes[0]
    assert len({line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o"}) == 3
    assert axes.get_xlabel() == "accuracy in percent\n*: short"


@pytest.mark.parametrize(("largest", "scale"), [(8.0, "linear"), (30.0, "symlog")])
def test_claims_of_less_than_a_point_are_seen_beside_large_ones(largest: float, scale: str) -> None:
    claim = {"unit": "percentage points", "ours": 0.5, "low": 0.1, "high": 0.9, "has_to_be": "above", "threshold": 0}
    claims = pd.DataFrame([{**claim, "claim": "a", "verdict": "undecided at n = 1", "published": largest}])
    axes = draw_claims(claims, "T").axes[0]
    assert axes.get_xscale() == scale


def test_a_table_of_single_nets_and_one_of_which_nothing_is_there() -> None:
    single = pd.DataFrame({"row": ["A"], "error": [1.5], "error_published": [0.5]})
    found = marks(draw_table(single, "T", "test error in percent").axes[0])
    assert found == {"error": [1.5], "published": [0.5]}
    quoted = draw_table(single.assign(quoted=True), "T", "u").axes[0]
    assert [label.get_text() for label in quoted.get_yticklabels()] == ["A (quoted)"]
    draw_table(single.assign(error=None, error_published=None).astype({"error": float}), "T", "u")


def test_claims_stand_under_their_unit_with_what_they_have_to_pass() -> None:
    common = {"where": "here", "n": 3, "p": 0.01, "p_holm": 0.02}
    claims = pd.DataFrame(
        [
            {"claim": "a", "unit": "percentage points", "published": 1, "ours": 2, "low": 1.5, "high": 2.5,
             "has_to_be": "above", "threshold": 0, "verdict": "reproduced", **common},
            {"claim": "b", "unit": "percentage points", "published": 0.1, "ours": -2, "low": -3, "high": -1,
             "has_to_be": "within", "threshold": 1.3, "verdict": "not reproduced", **common},
            {"claim": "c", "unit": "times", "published": 3, "ours": 1.1, "low": 1, "high": 1.2,
             "has_to_be": "above", "threshold": 2, "verdict": "undecided at n = 1", **common},
            {"claim": "d", "unit": "times", "published": 3, "ours": None, "low": None, "high": None,
             "has_to_be": "above", "threshold": 2, "verdict": "not run", **common},
        ]
    )  # fmt: skip
    drawing = draw_claims(claims, "Claims")
    points, times = drawing.axes
    assert (points.get_xlabel(), times.get_xlabel()) == ("percentage points", "times")
    passed = [sorted({segment[0][0] for segment in lines.get_segments()}) for lines in points.collections[1::2]]
    assert passed == [[0], [-1.3, 1.3]]
    colors = [line.get_color() for line in points.lines if line.get_marker() == "o"]
    assert colors == ["#029e73", "#d55e00"]
    assert drawing.get_suptitle() == "Claims; 1 more were not run"
    draw_claims(claims[claims["verdict"] == "not run"], "None")


@pytest.fixture(autouse=True)
def _closed() -> object:
    import matplotlib.pyplot as plt

    yield
    plt.close("all")
