"""Verdicts on claims from known predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import CLAIMS, Project
from finished import finish, predict
from pretended import LABELS, pretend
from scipy import stats

from fspkd.report import figures
from fspkd.report.claims import judge, write
from fspkd.report.timings import MACHINE
from fspkd.runs.spec import Run


def judged(project: Project) -> pd.DataFrame:
    plan = project.plan()
    figures.write(plan, "figure3")
    rounds = {f"round{number}": speed_up for number, speed_up in enumerate([1.9, 2, 2.1, 2, 2], 1)}
    frame = pd.DataFrame(
        [{"what": "speed-up of Student* over Teacher, on the fly", **rounds, **dict.fromkeys(MACHINE, "here")}]
    )
    frame.to_csv("results/tiny/timing.csv", index=False)
    return judge(plan)


def set_claims(project: Project, *claims: dict[str, object]) -> None:
    """Write the preset's claims."""
    named = [{"claim": f"claim {number}", "where": "here", **claim} for number, claim in enumerate(claims)]
    project.claims_path.write_text(yaml.safe_dump({"claims": named}))


def err(net: Run, wrong: int) -> None:
    """Make a net sure about each of 2000 images, and wrong about the first `wrong`."""
    labels = torch.arange(2000) % 3
    guesses = torch.where(torch.arange(2000) < wrong, (labels + 1) % 3, labels)
    predict(net, 9.0 * torch.nn.functional.one_hot(guesses, 3).float(), labels)


def test_claims_compare_what_tables_show(project: Project) -> None:
    pretend(project)
    claims = judged(project)
    assert claims["published"].tolist() == pytest.approx([92.14 - 91.75, 93.26 - 92.14 - (93.48 - 91.75), 3, 1.78])
    assert claims["ours"].tolist() == pytest.approx([0, 0, 1, stats.gmean([1.9, 2, 2.1, 2, 2])])
    assert claims["threshold"].tolist() == pytest.approx([0, 0, 2, 1.691])
    # The students share a stage 1, and all learn from one teacher: they say nothing about other ones.
    assert claims["n"].tolist() == [1, 1, 1, 5]
    verdicts = ["undecided at n = 1", "undecided at n = 1", "undecided at n = 1", "reproduced"]
    assert claims["verdict"].tolist() == verdicts


def test_files_say_what_intervals_are_over_and_write_no_rounding(project: Project) -> None:
    pretend(project)
    exact, csv = judged(project), write(project.plan())
    for end in (".md", ".html"):
        assert (
            "at n = 1, n being the number of independent seeds, over test images only"
            in csv.with_suffix(end).read_text()
        )
    frame = pd.read_csv(csv)
    np.testing.assert_allclose(frame["ours"], exact["ours"].astype(float), rtol=1e-5, atol=1e-9)
    assert ((frame["ours"] == 0) | (frame["ours"].abs() > 1e-6) | frame["ours"].isna()).all()


def test_nets_are_seeds_where_they_share_nothing(project: Project) -> None:
    """Unpaired, however many a row has; about equal if the whole interval is within the margin."""
    project.set("rows.short", {**project.content["rows"]["teacher"], "nets": 3})
    project.set("tables.table1.rows.Short", "short")
    set_claims(project, {**CLAIMS[0], "more": "Short", "within": 40.0})
    pretend(project)
    judged = judge(project.plan()).iloc[0]
    assert (judged["n"], judged["ours"], judged["has_to_be"], judged["threshold"]) == (2, 0, "within", 40)
    assert judged["verdict"] == "undecided at n = 2"  # all are equally good, so their spread is unknown


def two_rows(project: Project, gap: int, spread: int = 2) -> None:
    """Five teachers, wrong about 200 images or more, and five nets that share nothing with them, wrong about `gap` more."""
    project.set("rows.teacher.nets", 5)
    project.set("rows.short", project.content["rows"]["teacher"])
    project.set("tables.table1.rows.Short", "short")
    for row, wrong in (("teacher", 200), ("short", 200 + gap)):
        for number, net in enumerate(project.plan().nets(row)):
            finish(net)
            err(net, wrong + spread * number)


@pytest.mark.parametrize(("gap", "verdict"), [(4, "reproduced"), (200, "not reproduced")])
def test_rows_are_surely_about_equal_or_surely_not(project: Project, gap: int, verdict: str) -> None:
    set_claims(project, {**CLAIMS[0], "more": "Short", "within": 1.0})
    two_rows(project, gap)
    judged = judge(project.plan()).iloc[0]
    assert (judged["n"], judged["ours"], judged["verdict"]) == (5, pytest.approx(-gap / 20), verdict)


def test_of_several_claims_each_has_to_be_surer(project: Project) -> None:
    once = {**CLAIMS[0], "more": "Teacher", "less": "Short"}
    set_claims(project, once)
    two_rows(project, 40, 14)
    (alone,) = judge(project.plan()).itertuples()
    assert 0.025 < alone.p < 0.05
    assert alone.verdict == "reproduced"
    set_claims(project, once, once)
    claims = judge(project.plan())
    assert claims["p"].tolist() == [alone.p] * 2
    assert claims["p_holm"].tolist() == [2 * alone.p] * 2
    assert claims["verdict"].tolist() == ["undecided at n = 5"] * 2


def test_a_gain_is_what_nets_are_worth_together(project: Project) -> None:
    """Of four images, each teacher is wrong about a different one, and both students about the same three."""
    set_claims(project, *({**CLAIMS[0], "value": value} for value in ("average", "ensemble", "gain")))
    pretend(project)
    guesses = (LABELS + (torch.arange(4) < 3)) % 3
    for net in project.plan().nets("student"):
        predict(net, torch.nn.functional.one_hot(guesses, 3).float(), LABELS)
    assert judge(project.plan())["ours"].tolist() == pytest.approx([25 - 75, 25 - 100, 0 - 25])


def test_nets_are_pairs_with_what_each_alone_learns_from(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("rows.student.stage1_shared", False)
    project.set("rows.student.stage1.teacher", "teacher")
    set_claims(project, CLAIMS[0])
    pretend(project)
    for number, wrong in ((1, 200), (2, 800)):  # a teacher's wrong answers; its student has 100 more
        err(project.plan().net(f"teacher/{number}"), wrong)
        err(project.plan().net(f"student/{number}"), wrong + 100)
    judged = judge(project.plan()).iloc[0]
    assert (judged["n"], judged["ours"]) == (2, pytest.approx(-5))
    assert judged["high"] < 0  # the differences are the same, however much the pairs differ


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
    """The difference is about the same in each replicate, although replicates differ a lot."""
    project.set("replicates", 3)
    pretend(project)
    for replicate in (1, 2, 3):
        for row, wrong in (("teacher", 301 * replicate + 58), ("student", 300 * replicate)):
            for net in project.plan().nets(row, replicate):
                err(net, wrong)
    claim = judged(project).iloc[0]
    assert claim["ours"] == pytest.approx(3)
    assert claim["n"] == 3
    assert claim["verdict"] == "reproduced"


def test_curves_of_teachers_and_their_students_are_compared_in_pairs(project: Project) -> None:
    """Replicates become flat at very different iterations, teachers always twice as late as their students."""
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
    assert claim["low"] == pytest.approx(claim["high"])  # equal in all replicates
    for net in (labels["Student"][0], labels["Teacher"][-1]):  # of replicates 1 and 3
        net.folder.manifest.unlink()
    assert judge(project.plan()).iloc[2]["n"] == 1
    plan.nets("student", 2)[0].folder.manifest.unlink()
    assert judge(project.plan()).iloc[2]["verdict"] == "not run"  # though the figure shows some nets of each curve
