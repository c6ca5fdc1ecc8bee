"""The page of a preset, from known predictions."""

from pathlib import Path

import pytest
from conftest import Project
from finished import finish
from pretended import pretend

from fspkd.errors import UserError
from fspkd.report.summary import summary
from fspkd.workflow.results import ResultRule


def test_what_ran_is_what_the_page_shows_and_what_that_rests_on(project: Project) -> None:
    """Not everything there is of the preset it extends, nor a training that is only timed."""
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    project.set("rows.other", row)
    project.set("timings.timing.teachers", "other")
    pretend(project)
    project.set("tables.table1.rows", {"FitNet, 1 loss*": "fitnet"})
    project.set("figures", {})
    project.set("claims", None)
    plan = project.plan()
    for name in ("table1.svg", "timing.csv"):
        path = Path("results/tiny", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "what,value,low,high,published,unit,round1,device,processor,threads\nnormal training,1,,,,hours,1,cpu,a CPU,1\n"
        )
    shown = [plan.net("fitnet/1"), plan.net("fitnet/1").stage1, plan.net("teacher/1")]
    page = summary(plan).decode()
    for what, number in (("nets and first stages", 3), ("iterations", 8 + 10 + 20)):
        assert f"<td>{what}</td><td>{number}</td>" in page
    manifests = ResultRule(plan, "summary").inputs()["manifests"]
    assert set(manifests) == {str(run.folder.manifest) for run in shown}
    for run in shown:
        run.folder.manifest.unlink()
    finish(plan.net("other/1"))
    with pytest.raises(UserError, match="results/tiny: nothing is trained yet"):
        summary(plan)
