"""What makes a run a different run, and what does not."""

from pathlib import Path

import pytest
import yaml
from conftest import Project
from snakemake.io import is_flagged

from fspkd.engine.batches import batch_draws
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans
from fspkd.result import wanted_by_results
from fspkd.runs.folder import PHASES
from fspkd.workflow.dvc import left_out, packed_files, phase_outputs
from fspkd.workflow.training import training_rules


def ids(plan: Plan) -> dict[str, str]:
    return {run.spec.name: run.id for run in plan.runs.values()}


def changed(project: Project, key: str, value: object) -> set[str]:
    before = ids(project.plan())
    project.set(key, value)
    after = ids(project.plan())
    return {stream for stream in after if after[stream] != before.get(stream)}


def test_a_changed_setting_changes_its_runs_and_what_follows_from_them(project: Project) -> None:
    everything = set(ids(project.plan()))
    students = {"student-stage1", "student-1", "student-2"}
    assert changed(project, "rows.student.stage1.weight", 2.0) == students
    assert changed(project, "schedules.short", [{"until": 9, "rate": 0.05}]) == {"student-1", "student-2", "fitnet-1"}
    assert changed(project, "rows.fitnet.stage2.temperature", 4.0) == {"fitnet-1"}
    assert changed(project, "schedules.long", [{"until": 30, "rate": 0.1}]) == everything
    assert changed(project, "seed", 2) == everything
    assert changed(project, "data.images.augment.pad", 0) == everything


def test_other_rows_plots_names_and_places_change_no_run(project: Project) -> None:
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    assert changed(project, "rows.another", row) == {"another-1"}
    assert changed(project, "rows.teacher.nets", 3) == {"teacher-3"}
    assert changed(project, "figures.figure3.title", "Another title") == set()
    assert changed(project, "tables.table1.title", "Another title") == set()
    project.content["schedules"]["renamed"] = project.content["schedules"].pop("first")
    for name in ("student", "fitnet"):
        project.content["rows"][name]["stage1"]["schedule"] = "renamed"
    assert changed(project, "figures.figure3", None) == set()


def test_pinned_data_is_the_same_from_anywhere_and_other_data_is_not(project: Project) -> None:
    elsewhere = {"FSPKD_DATA_DIGITS": "/some/where"}
    here, there = project.plan(), project.plan(elsewhere)
    assert set(here.runs).isdisjoint(there.runs)
    project.set("data.images.sha256", "0" * 64)
    assert set(project.plan().runs) == set(project.plan(elsewhere).runs)


def test_a_net_cannot_learn_from_one_of_other_data_but_start_from_it(project: Project) -> None:
    project.set("data.others", {"name": "others", "source": "imagefolder", "path": "x"})
    project.set("timings.timing", None)
    project.set("claims", ...)
    project.set("rows.student.data", "others")
    with pytest.raises(
        UserError, match=r"student-stage1 is trained on 'others' and learns from teacher-1, .* 'digits'"
    ):
        project.plan()
    project.set("rows.student.stage1", ...)
    project.set("rows.student.start", "teacher/1")
    plan = project.plan()
    assert plan.net("student/1").is_transfer
    assert plan.net("student/1").phase == "teachers"
    project.set("rows.student.data", "images")
    assert not project.plan().net("student/1").is_transfer
    project.set("networks.wide", {"architecture": "cifar_resnet", "depth": 8, "width": 8})
    project.set("rows.student.network", "wide")
    with pytest.raises(
        UserError, match=r"student-1 starts from teacher-1-\w+, whose network is .*width=4.* and not .*width=8"
    ):
        project.plan()


def test_nets_may_not_come_from_images_that_are_held_out(project: Project) -> None:
    project.set("data.held", {**project.content["data"]["images"], "hold_out": 100})
    project.set("timings.timing", None)
    project.set("claims", ...)
    project.set("rows.student.data", "held")
    with pytest.raises(
        UserError,
        match=r"student-stage1 is trained on 'digits' with hold_out = 100 and learns from teacher-1, .* on 'digits'\.",
    ):
        project.plan()
    project.set("rows.student.stage1", ...)
    project.set("rows.student.start", "teacher/1")
    with pytest.raises(
        UserError, match=r"student-1 is trained on .* = 100 and starts from teacher-1, .* on 'digits'\."
    ):
        project.plan()
    for row in ("teacher", "fitnet"):
        project.set(f"rows.{row}.data", "held")
    assert {run.data.settings.hold_out for run in project.plan().runs.values()} == {100}


def test_a_teacher_may_have_seen_validation_images_and_must_see_pixels_alike(project: Project) -> None:
    images = project.content["data"]["images"]
    project.set("data.divided", {**images, "validation": 100})
    project.set("timings.timing", None)
    project.set("claims", ...)
    project.set("rows.student.data", "divided")
    plan = project.plan()
    assert plan.net("student/1").stage1.teacher == plan.net("teacher/1")
    assert plan.net("student/1").data != plan.net("teacher/1").data
    stage1 = project.content["rows"]["student"]["stage1"]
    project.set("rows.student.stage1", ...)
    project.set("rows.student.start", "teacher/1")
    assert not project.plan().net("student/1").is_transfer  # it keeps its linear layer
    project.set("rows.student.start", ...)
    project.set("rows.student.stage1", stage1)
    project.set("data.divided.preprocess", {"method": "gcn_lcn"})
    with pytest.raises(
        UserError, match=r"is trained on 'digits' with preprocess = {'method': 'gcn_lcn'} and learns from teacher-1"
    ):
        project.plan()


def test_what_ends_a_stage_is_part_of_it_and_is_divided(project: Project) -> None:
    assert changed(project, "training.stop", {"by": "schedule"}) == set()
    project.set("data.images.validation", 100)
    students = {"student-stage1", "student-1", "student-2"}
    assert changed(project, "rows.student.stop", {"by": "validation", "patience": 7}) == students
    net = project.plan().net("student/1").spec
    first = project.plan().net("student/1").stage1.spec
    # First stages, which are not tested, use the interval of the others' tests.
    assert [(s.training.stop.patience, s.training.stop.every) for s in (net, first)] == [(7, 5)] * 2
    assert (net.training.evaluate_every, first.training.evaluate_every) == (5, None)
    project.set("divide_schedules", {"images": 2})
    project.set("rows.student.stop.every", 1)
    stop = project.plan().net("student/1").spec.training.stop
    assert (stop.patience, stop.every) == (4, 1)  # rounded as schedules are, and at least an iteration
    project.set("training.stop", {"by": "validation", "patience": 40})
    project.set("rows.student.stop", {"by": "schedule"})
    plan = project.plan()
    assert plan.net("student/1").spec.training.stop is None
    assert plan.net("teacher/1").spec.training.stop.patience == 20


def test_replicates_are_other_runs_with_teachers_of_their_own(project: Project) -> None:
    alone = project.plan()
    project.set("replicates", 3)
    plan = project.plan()
    assert {run.id for run in plan.row_runs("student", 1)} == {run.id for run in alone.row_runs("student")}
    assert len(plan.runs) == 3 * len(alone.runs)
    for number, rows in enumerate(plan.replicates, 1):
        assert {net.stage1.teacher for net in rows["student"]} == {plan.net("teacher/1", number)}
    assert [net.spec.replicate for net in plan.nets("student/2")] == [1, 2, 3]


def test_a_row_can_borrow_another_rows_stage_1(project: Project) -> None:
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "long"}}
    project.set("rows.full", {**row, "stage1_of": "student"})
    plan = project.plan()
    assert plan.net("full/1").start is plan.net("student/1").start
    assert plan.row_runs("full") == [plan.net("full/1")]
    assert [run.spec.name for run in plan.row_runs("student")] == ["student-stage1", "student-1", "student-2"]


def test_a_stage_1_for_each_net(project: Project) -> None:
    project.set("rows.student.stage1_shared", False)
    plan = project.plan()
    assert [run.start.spec.name for run in plan.rows["student"]] == ["student-1-stage1", "student-2-stage1"]
    assert len(plan.row_runs("student")) == 4


def test_a_teacher_for_each_net(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("rows.student.stage1_shared", False)
    first = project.plan().net("student/1")
    project.set("rows.student.stage1.teacher", "teacher")
    plan = project.plan()
    assert [net.stage1.teacher for net in plan.nets("student")] == plan.nets("teacher")
    assert plan.net("student/1").id != first.id  # it has its own batches
    project.set("rows.student.stage2", {"method": "kd", "teacher": "teacher", "schedule": "short"})
    project.set("replicates", 2)
    plan = project.plan()
    assert [net.teacher for net in plan.nets("student")] == plan.nets("teacher")


@pytest.mark.parametrize("members", [1, 2, 3, 100])
def test_jobs_hold_every_run_once_and_none_that_waits_for_another(project: Project, members: int) -> None:
    project.set("data.others", {"name": "others", "source": "imagefolder", "path": "x"})
    row = {"data": "others", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "long"}}
    project.set("rows.elsewhere", row)
    plan = project.plan()
    jobs = plan.jobs(members, without=(), wanted={})
    assert sorted(run.id for job in jobs for run in job) == sorted(plan.runs)
    for job in jobs:
        assert len(job) <= members
        assert len({run.data for run in job}) == 1
        assert not {other for run in job for other in (run.start, run.teacher)} & set(job)
    if members == 100:
        assert [len(job) for job in jobs] == [2, 2, 3, 1]  # teachers, stage 1, stage 2, other data


def test_jobs_of_results_hold_nothing_that_no_result_shows(project: Project) -> None:
    project.set("tables.table1.rows", {"FitNet, 1 loss*": "fitnet"})
    for key in ("figures", "timings", "claims"):
        project.set(key, ...)
    rules = training_rules([project.plan()], 100)
    jobs = [{run.spec.name for run in runs} for rule in rules for _, runs in rule.jobs.values()]
    assert jobs == [
        {"teacher-1"},
        {"teacher-2"},
        {"fitnet-stage1"},
        {"fitnet-1"},
        {"student-stage1"},
        {"student-1", "student-2"},
    ]


def test_phases_hold_what_results_wait_for_alone(project: Project) -> None:
    """DVC needs no rows and no data that a preset inherits but shows nothing of."""
    project.set("tables.table1.rows", {"FitNet, 1 loss*": "fitnet"})
    for key in ("figures", "timings", "claims"):
        project.set(key, ...)
    project.set("data.more", {**project.content["data"]["images"], "name": "more"})
    project.set("rows.more", {**project.content["rows"]["teacher"], "data": "more"})
    plan = project.plan()
    phases = {phase: {Path(file).parent.name for file in phase_outputs(plan, phase)} for phase in PHASES}
    nets = {"teachers": "teacher/1", "students": "fitnet/1"}
    assert phases == {
        **{phase: {plan.net(net).id} for phase, net in nets.items()},
        "stage1": {plan.net("fitnet/1").start.id},
    }
    assert packed_files(plan) == [str(plan.net("fitnet/1").data.path)]


def test_what_dvc_is_not_told_of_is_named(project: Project) -> None:
    plan = project.plan()
    assert left_out(plan) == []  # no file, so no DVC
    given = {"results": "results/tiny", "tables": [], "figures": ["figure3"], "timings": None}
    Path("params.yaml").write_text(yaml.safe_dump(given))
    assert left_out(plan) == ["table1", "timing", "claims"]
    Path("params.yaml").write_text(yaml.safe_dump({**given, "results": "results/other"}))
    assert left_out(plan) == []


def test_of_trainings_that_are_timed_their_teachers_alone_are_trained(project: Project) -> None:
    child = {"extends": "tiny", "results": "results/child", "shows": ["timing"]}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    plan = load_plans()[0]["results/child"]
    assert wanted_by_results(plan) == plan.nets("teacher")[:1]


def test_what_one_preset_refuses_is_trained_for_no_other(project: Project) -> None:
    """Otherwise a net that both share would be computed in float32, since the other preset comes first."""
    child = {"extends": "tiny", "results": "results/child", "without_bfloat16": "refuse"}
    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "long"}}
    child |= {"rows": {"mine": row}, "tables": {"mine": {"title": "T", "rows": {"Mine": "mine"}}}}
    Path("config/child.yaml").write_text(yaml.safe_dump(child))
    plans = [load_plans()[0][f"results/{name}"] for name in ("tiny", "child")]
    for members in (1, 100):
        jobs = [job for rule in training_rules(plans, members) for job in rule.jobs.values()]
        assert {plan.preset.name for plan, _ in jobs} == {"child"}
        assert {run for _, runs in jobs for run in runs} == set(wanted_by_results(plans[1]))
        theirs = set(wanted_by_results(plans[0]))  # no other nets share a job with these
        assert all(theirs.issuperset(runs) or theirs.isdisjoint(runs) for _, runs in jobs)


@pytest.mark.parametrize("pinned", [False, True])
def test_images_that_are_packed_anew_retrain_what_knows_them_by_their_place_alone(
    project: Project, pinned: bool
) -> None:
    """Pinned images with other content have another name, and other runs."""
    if pinned:
        project.set("data.images.sha256", "0" * 64)
    plan = project.plan()
    for rule in training_rules([plan], 2):
        (data,) = rule.inputs({})["data"]
        assert data == str(plan.data["images"].path)
        assert is_flagged(data, "ancient") == pinned


def test_nets_of_a_row_see_the_same_batches_in_stage_1_alone(project: Project) -> None:
    project.set("rows.student.stage1_shared", False)
    one, two = project.plan().rows["student"]
    assert batch_draws(one.start.spec) == batch_draws(two.start.spec)
    assert batch_draws(one.spec) != batch_draws(two.spec)
