"""The comparison of nets with their teacher: counts, accuracies, times, and claims about them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import Project, images_of
from scipy import stats

from fspkd.errors import UserError
from fspkd.models.net import Net
from fspkd.report import inference_time, timings
from fspkd.report.claims import judge
from fspkd.report.inference_time import BATCH, ROUNDS, measure, seconds_per_round, whole_batches
from fspkd.report.timings import MACHINE
from fspkd.workflow.names import names_in
from fspkd.workflow.results import ResultRule
from fspkd.workflow.training import run_outputs

PUBLISHED = """\
row,layers,weights,multiplications,accuracy,speed_up,compression
Big,3,9000000,725000000,90.18,1,1
Small,3,250000,30000000,89.01,13.36,36
"""
CLAIMS = [
    {"row": "Small"},
    {"row": "Other", "more_than": 1.5},
    {"row": "Small", "than": "Other"},
]


@pytest.fixture
def compared(project: Project) -> Project:
    """The tiny preset with a comparison of maxout nets."""
    for name, channels, kernel in (("big", 32, 5), ("small", 2, 3)):
        layers = [{"conv": channels, "kernel": kernel, "pad": 1, "pool": 2, "stride": 2}, {"full": 4, "pieces": 3}]
        project.content["networks"][name] = {"architecture": "maxout", "layers": layers, "init": "unit"}
        stage2 = {"method": "cross_entropy", "schedule": "short"}
        project.content["rows"][name] = {"data": "images", "network": name, "nets": 1, "stage2": stage2}
    project.content["rows"]["other"] = project.content["rows"]["small"]
    rows = {"Big": "big/1", "Small": "small/1", "Other": "other/1"}
    timing = {"kind": "inference_time", "title": "Nets & costs", "note": "Rounded.", "teacher": "big/1", "rows": rows}
    Path("config/tiny/table5.csv").write_text(PUBLISHED)
    project.content["claims"] = None
    project.set("timings", {"table5": {**timing, "reference": "tiny/table5.csv"}})
    return project


def test_seconds_are_for_all_test_images_however_few_are_computed(
    compared: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A net that takes 2 ms an image, and one that takes 1: of the 450 images, two batches are computed in each turn."""
    compared.train("big/1", "small/1")
    runs = [compared.plan().net(name) for name in ("big/1", "small/1")]
    clock, computed = [0.0], []

    def compute(net: Net, batches: list[torch.Tensor]) -> None:
        computed.append(sum(map(len, batches)))
        clock[0] += computed[-1] * (2e-3 if net.network == runs[0].spec.network else 1e-3)

    monkeypatch.setattr(inference_time, "compute", compute)
    monkeypatch.setattr(inference_time, "SECONDS", 1e-3)
    monkeypatch.setattr(inference_time.time, "perf_counter", lambda: clock[0])
    images = images_of(runs[0])
    taken = seconds_per_round(runs, images)
    assert max(computed) == 2 * BATCH < len(images.test)
    np.testing.assert_allclose(taken, len(images.test) * np.array([[2e-3] * ROUNDS, [1e-3] * ROUNDS]))


def test_nets_are_counted_tested_and_timed(compared: Project) -> None:
    compared.train("big/1", "small/1", "other/1")
    plan = compared.plan()
    csv = timings.write(plan, "table5", measure(plan, "table5", torch.device("cpu")))
    frame = pd.read_csv(csv).set_index("row")
    assert list(frame.index) == ["Big", "Small", "Other"]
    # A 5x5 convolution of 64 filters on 6x6 positions, then 3x3 maps of 32 channels; 12 and 10 linear units.
    assert frame.loc["Big", "layers":"multiplications_published"].tolist() == [
        *(3, 3),
        *(64 * 25 + 12 * 3 * 3 * 32 + 10 * 4, 9_000_000),
        *(36 * 64 * 25 + 12 * 3 * 3 * 32 + 10 * 4, 725_000_000),
    ]
    small = 4 * 9 + 12 * 4 * 4 * 2 + 10 * 4
    assert frame["weights"].tolist()[1:] == [small, small]
    assert frame["compression"].tolist() == pytest.approx([1, 5096 / small, 5096 / small], rel=1e-5)
    for label, row in (("Big", "big"), ("Small", "small")):
        tested = pd.read_csv(plan.net(f"{row}/1").folder.metrics)["test_accuracy"].iloc[-1]
        assert frame.loc[label, "accuracy"] == pytest.approx(tested, rel=1e-5)
    rounds = frame[[f"round{number}" for number in range(1, ROUNDS + 1)]].to_numpy()
    assert frame["seconds"].to_numpy() == pytest.approx(stats.gmean(rounds, axis=1), rel=1e-4)
    assert frame["speed_up"].to_numpy() == pytest.approx(stats.gmean(rounds[0] / rounds, axis=1), rel=1e-4)
    interval = stats.ttest_1samp(np.log(rounds[0] / rounds[1]), 0).confidence_interval()
    assert frame.loc["Small", ["low", "high"]].tolist() == pytest.approx(np.exp(interval), rel=1e-3)
    assert frame["speed_up_published"].tolist()[:2] == [1, 13.36]
    assert frame.loc["Other"].filter(regex="_published$").isna().all()
    assert ",9000000," in csv.read_text()
    page = csv.with_suffix(".html").read_text()
    for text in ("Nets &amp; costs (preset tiny)", "Published values are in brackets", "5,096 (9,000,000)", "3 (–)"):
        assert text in page
    assert page.index("</table>") < page.index("Rounded.")


def test_times_are_of_whole_batches(compared: Project) -> None:
    images = images_of(compared.plan().net("big/1"))
    assert [tuple(batch.shape) for batch in whole_batches(images)] == [(128, 1, 8, 8)] * 3  # of 450
    images.test = images.test[:100]
    assert [len(batch) for batch in whole_batches(images)] == [100]


def measured(rounds: dict[str, list[float]]) -> None:
    """Write a comparison's file."""
    frame = pd.DataFrame({"row": list(rounds), "weights": [9000, 250, 1000], **dict.fromkeys(MACHINE, "here")})
    frame[[f"round{number + 1}" for number in range(len(rounds["Big"]))]] = list(rounds.values())
    Path("results/tiny").mkdir(parents=True, exist_ok=True)
    frame.to_csv("results/tiny/table5.csv", index=False)


def test_claims_are_judged_over_rounds(compared: Project) -> None:
    claims = [
        {"claim": str(n), "where": "x", "compare": "inference_time", "timing": "table5", **c}
        for n, c in enumerate(CLAIMS)
    ]
    compared.claims_path.write_text(yaml.safe_dump({"claims": claims}))
    compared.set("claims", "tiny/claims.yaml")
    assert set(judge(compared.plan())["verdict"]) == {"not run"}
    rounds = {"Big": [4.0, 4.4, 3.8], "Small": [1.0, 1.1, 0.97], "Other": [2.5, 2.9, 2.6]}
    measured(rounds)
    judged = judge(compared.plan())
    big, small, other = map(np.array, rounds.values())
    for number, (ratio, threshold) in enumerate([(big / small, 1), (big / other, 1.5), (other / small, 1)]):
        test = stats.ttest_1samp(np.log(ratio), np.log(threshold))
        claim = judged.iloc[number]
        assert (claim["ours"], claim["n"]) == (pytest.approx(stats.gmean(ratio)), 3)
        assert claim["p"] == pytest.approx(test.pvalue, rel=1e-6)
        assert (claim["low"], claim["high"]) == pytest.approx(np.exp(tuple(test.confidence_interval())))
    assert judged["published"][0] == 13.36
    assert judged["published"].isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (
            {"row": "Tiny"},
            "row = 'Tiny': .* has no such entry. .* claims: null in the preset; available: Big, Small, Other",
        ),
        ({"row": "Small", "than": "Smal"}, "than = 'Smal'.*did you mean 'Small'"),
        (
            {"compare": "timing", "what": "speed-up of Student* with saved FSP", "tolerance": 0.05},
            "timing = 'table5': has kind inference_time in preset 'tiny', but compare: timing needs kind training_time",
        ),
    ],
)
def test_claims_about_what_is_not_compared_are_refused(compared: Project, claim: dict, message: str) -> None:
    whole = {"claim": "c", "where": "x", "compare": "inference_time", "timing": "table5", **claim}
    compared.claims_path.write_text(yaml.safe_dump({"claims": [whole]}))
    compared.set("claims", "tiny/claims.yaml")
    with pytest.raises(UserError, match=message):
        compared.plan()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "teacher",
            "teacher/1",
            r"timings.table5.teacher = 'teacher/1': is not one of its rows. Name one of big/1, small/1",
        ),
        ("rows.Small", "small/2", r"timings.table5.rows.Small = 'small/2': row 'small' has only 1 nets"),
        ("rows.Small", "small", r"timings.table5.rows.Small: must be one net of a row, such as teacher/1"),
        ("kind", "inference", r"timings.table5.kind = 'inference': must be one of 'training_time', 'inference_time'"),
        (
            "reference",
            "tiny/none.csv",
            r"config/tiny/none.csv, which timings.[a-z0-9_]+ of preset .tiny. names: cannot be read: No such file",
        ),
        ("reference", "fsp/reference/timing.csv", r"config/fsp/reference/timing.csv: has no column 'row'"),
    ],
)
def test_mistakes_are_told(compared: Project, key: str, value: str, message: str) -> None:
    compared.set(f"timings.table5.{key}", value)
    with pytest.raises(UserError, match=message):
        compared.plan()


def test_nets_on_other_data_are_refused(compared: Project) -> None:
    compared.set("data.others", {"name": "others", "source": "imagefolder", "path": "x"})
    compared.set("rows.small.data", "others")
    with pytest.raises(
        UserError, match=r"timings.table5.rows.Small = 'small/1': must be on the data of the teacher, 'images'"
    ):
        compared.plan()


def test_it_needs_its_nets_and_says_so(compared: Project) -> None:
    plan = compared.plan()
    with pytest.raises(UserError, match=r"big-1-\w+: is not trained yet"):
        measure(plan, "table5", torch.device("cpu"))
    result = ResultRule(plan, "timing", "table5")
    nets = [plan.net(f"{row}/1") for row in ("big", "small", "other")]
    assert result.inputs()["nets"] == [file for net in nets for file in run_outputs(net)]
    assert result.inputs()["reference"] == ["config/tiny/table5.csv"]
    assert result.decided_by()[1:] == [net.id for net in nets]


def test_a_table_of_one_preset_may_be_a_comparison_of_another(compared: Project) -> None:
    whole = compared.plan()
    compared.set("timings", {"table1": compared.content["timings"]["table5"]})
    compared.set("tables", {"table5": compared.content["tables"]["table1"]})
    plans = {"results": whole, "results/tiny": compared.plan()}
    found = {}
    for section in ("tables", "timings"):
        pattern = re.compile(rf"(results|results/tiny)/({names_in(plans, section)})\.csv")
        found[section] = [
            f"{folder}/{name}"
            for folder in plans
            for name in ("table1", "table5", "table")
            if pattern.fullmatch(f"{folder}/{name}.csv")
        ]
    assert found == {
        "tables": ["results/table1", "results/tiny/table5"],
        "timings": ["results/table5", "results/tiny/table1"],
    }
