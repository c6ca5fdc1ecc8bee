"""Claims judged from known predictions."""

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import CLAIMS, Project, predict
from pretended import pretend

from fspkd.report import curves
from fspkd.report.claims import judge


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
    assert judged["verdict"] == "undecided at n = 2"  # all are equally good, so nothing says how they spread


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
    """With a difference that is about the same in each replicate, but replicates that differ much."""
    project.set("replicates", 3)
    pretend(project)
    labels = torch.arange(2000) % 3
    for replicate in (1, 2, 3):
        for row, wrong in (("teacher", 301 * replicate + 58), ("student", 300 * replicate)):
            for net in project.plan().nets(row, replicate):
                guesses = torch.where(torch.arange(2000) < wrong, (labels + 1) % 3, labels)
                logits = 9.0 * torch.nn.functional.one_hot(guesses, 3).float()
                predict(net, logits, labels)
    claim = judged(project).iloc[0]
    assert claim["ours"] == pytest.approx(3)
    assert claim["n"] == 3
    assert claim["verdict"] == "reproduced"


def test_curves_of_teachers_and_their_students_are_compared_in_pairs(project: Project) -> None:
    """Of replicates that become flat at very different iterations, teachers always twice as late as their students."""
    project.set("replicates", 3)
    pretend(project)
    plan = project.plan()
    labels = {label: plan.curves("figure3")[label] for label in ("Teacher", "Student")}
    flat = [
        {
            "measure": "training loss",
            "net": net.id,
            "iteration": (2 if label == "Teacher" else 1) * 10**net.spec.replicate,
        }
        for label, nets in labels.items()
        for net in nets
    ]
    judged(project)
    pd.DataFrame(flat).to_csv("results/tiny/figure3_flat.csv", index=False)
    claim = judge(project.plan()).iloc[2]
    assert (claim["n"], claim["ours"]) == (3, pytest.approx(2))
    assert claim["low"] == pytest.approx(claim["high"])  # whatever the replicate
