"""What a table says about where its nets come from, and which runs do not belong together."""

import pytest
from conftest import REPOSITORY, Project
from finished import finish
from pretended import pretend

from fspkd.errors import UserError
from fspkd.report import curves, tables
from fspkd.report.origins import warnings
from fspkd.runs.spec import check_finished
from fspkd.tracking.follow import FOLLOWED


def test_nets_of_different_code_are_told(project: Project) -> None:
    pretend(project)
    assert warnings(project.plan(), "table1") == []
    run = project.plan().net("student/2")
    finish(run, {"engine": "1", "method": "0"})
    (warning,) = warnings(project.plan(), "table1")
    assert f"engine 1: {run.id}" in warning


def test_what_a_table_rests_on_is_told_too(project: Project) -> None:
    """Such as a teacher that it does not show."""
    pretend(project)
    project.set("tables.table1.rows", {"Student*": "student"})
    project.set("claims", ...)
    finish(project.plan().net("teacher/1"), {"engine": "1", "method": "0"})
    (warning,) = warnings(project.plan(), "table1")
    assert f"engine 1: {project.plan().net('teacher/1').id}" in warning


def test_nets_made_from_others_than_those_that_are_there_are_told(project: Project) -> None:
    """As exported nets may be, whose teacher was trained again."""
    pretend(project)
    first = project.plan().net("student/1").start
    manifest = first.folder.read_manifest()
    first.folder.write_manifest(manifest.model_copy(update={"inputs_sha256": {"teacher": "0" * 64}}))
    (warning,) = warnings(project.plan(), "table1")
    assert f"{first.id} from another {first.teacher.id}" in warning


def test_nets_of_different_kinds_of_machines_are_told(project: Project) -> None:
    """Also if a net was only finished on another one; in the table's files too."""
    pretend(project)
    run = project.plan().net("student/2")
    manifest = run.folder.read_manifest()
    other = manifest.attempts[0].model_copy(update={"precision": "bfloat16", "instructions": "AVX512", "threads": 2})
    run.folder.write_manifest(manifest.model_copy(update={"attempts": (*manifest.attempts, other)}))
    (warning,) = warnings(project.plan(), "table1")
    for text in ("precision: float32, but bfloat16 in", "threads: 1, but 2 in", "instructions: AVX2, but AVX512 in"):
        assert f"{text} {run.id}" in warning
    csv = tables.write(project.plan(), "table1")
    for end in (".md", ".html"):
        assert f"precision: float32, but bfloat16 in {run.id}" in csv.with_suffix(end).read_text()
    comment = csv.with_suffix(".tex").read_text().splitlines()[1]  # not in the caption
    assert comment.startswith("% warning")
    assert run.id in comment


def test_on_a_gpu_the_hosts_processor_decides_nothing_but_by_its_instructions(project: Project) -> None:
    pretend(project)
    on_cpu = project.plan().net("student/2").folder.read_manifest().attempts[0]
    on_gpu = on_cpu.model_copy(update={"device": "NVIDIA H200", "driver": "580"})
    for change, decides in (
        ({"processor": "another"}, False),
        ({"threads": 2}, False),
        ({"instructions": "AVX512"}, True),
    ):
        assert on_cpu.model_copy(update=change).kind != on_cpu.kind
        assert (on_gpu.model_copy(update=change).kind != on_gpu.kind) == decides


def test_what_no_manifest_vouches_for_is_not_read(project: Project) -> None:
    """Truncated, another net's, or missing: nothing is made from it, and the message says what to do."""
    pretend(project)
    run, other = project.plan().net("student/1"), project.plan().net("student/2")
    files = {file: file.read_bytes() for file in (run.folder.predictions, run.folder.metrics, run.folder.manifest)}
    again = r"Delete .*/student-1-\w+/manifest.json and make both again: snakemake .*/student-1-\w+/manifest.json"
    for damaged in (files[run.folder.predictions][:-100], other.folder.predictions.read_bytes(), None):
        run.folder.predictions.write_bytes(damaged) if damaged else run.folder.predictions.unlink()
        with pytest.raises(UserError, match=rf"student-1-\w+/predictions.npz: is missing, or does not match .*{again}"):
            tables.make_table(project.plan(), "table1")
    run.folder.metrics.write_bytes(files[run.folder.metrics][:-20])
    with pytest.raises(UserError, match=rf"student-1-\w+/metrics.csv: is missing, or does not match .*{again}"):
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
    """Nets of different images in one row, and nets whose start or teacher has other weights now."""
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
        UserError, match=rf"student-1-\w+: was made from weights that differ from those in .*{stage1.id} now"
    ):
        check_finished([run])
    made_from(start=stage1.folder.read_manifest().weights_sha256)
    check_finished([run])
    whole, run = (
        stage1.folder.read_manifest(),
        stage1,
    )  # a first stage, in no cell, is checked for all that shows its nets
    made_from(teacher="other weights")
    for script, file in (("make_table", "table1.csv"), ("make_figure", "figure3.png"), ("judge_claims", "claims.csv")):
        ended = project.run(
            "python", str(REPOSITORY / f"scripts/{script}.py"), f"results/tiny/{file}", **{FOLLOWED: "1"}
        )
        assert ended.returncode == 1
        assert f"{stage1.id}: was made from weights that differ from those in" in ended.stderr
