"""Presets: what is refused, and the messages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, Project
from mistakes import MISTAKES, depth

from fspkd.config.load import load_preset
from fspkd.config.references import problems
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans


@pytest.mark.parametrize(("key", "value", "message"), [mistake[:3] for mistake in MISTAKES])
def test_mistakes_are_told_with_file_key_and_value(project: Project, key: str, value: object, message: str) -> None:
    project.set(key, value)
    with pytest.raises(UserError, match=message):
        project.plan()


WHAT = "speed-up of Student* over Teacher, on the fly"  # named by a claim
DEPTH = "panel,method,layers,accuracy\nwide,BP,8,91.5\n"


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("timing", "what,hours\na,1\n", r"has no column 'value'. Add one, or name another file as reference"),
        (
            "timing",
            "what,value\nspeed-up,1.8\n",
            r"has none of the rows of timings.timing .*: it has 'speed-up', but not",
        ),
        (
            "timing",
            "what,value\nspeed-up of Student* with saved FSP,2\n",
            rf"has no row '{re.escape(WHAT)}', which config/tiny/claims.yaml: claim 'claim 4' names",
        ),
        (
            "timing",
            f'what,value\n"{WHAT}",1.8\n"{WHAT}",2\n',
            r"what = 'speed-up .*: occurs twice. Give the two different labels",
        ),
        ("timing", f"what,value\n{WHAT},1.8\n", r"line 2: has more cells than there are columns. Put quotes around"),
        ("timing", f'what,value\n"{WHAT}","1,8"\n', r"line 2: value = '1,8': is not a number. Write one, such as 91.5"),
        ("table1", "row,accuracy\nTeacher,\nFitNet,91.5 %\n", r"line 3: accuracy = '91.5 %': is not a number"),
        ("figure2", DEPTH.replace("layers", "depth"), r"has no column 'layers'"),
        ("figure2", DEPTH.replace("accuracy", "error"), r"has no column 'accuracy'"),
        ("figure2", DEPTH.replace("91.5", "91_5"), r"line 2: accuracy = '91_5': is not a number"),
        ("figure2", DEPTH + "wide,BP,8,92\n", r"panel, method, layers = 'wide, BP, 8': occurs twice"),
        ("figure2", DEPTH.replace(",8,", ",8.5,"), r"line 2: layers = '8.5': is not a whole number"),
        ("table1", "row,average\nTeacher,90\n  , \n", r"line 3: is empty. Remove it"),
        ("table1", "row,average\nTeacher,90\n,,\n", r"line 3: has more cells than there are columns"),
        ("figure2", "panel,méthode\n".encode("latin-1"), r"is not UTF-8 text. Save it as UTF-8"),
    ],
)
def test_published_numbers_that_lack_what_results_read_are_refused(
    project: Project, key: str, content: str | bytes, message: str
) -> None:
    """Refused before anything is trained, not when it is shown."""
    project.content["figures"]["figure2"] = {**depth({"wide": {"BP": ["teacher"]}}), "reference": "tiny/depth.csv"}
    Path("config/tiny/depth.csv").write_text("\ufeff" + DEPTH, encoding="utf-8")  # a BOM, as from spreadsheets
    project.write()
    project.plan()
    section = {"timing": "timings", "table1": "tables", "figure2": "figures"}[key]
    Path("config/tiny/own.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    project.set(f"{section}.{key}.reference", "tiny/own.csv")
    with pytest.raises(UserError, match=rf"^config/tiny/own.csv: {message}"):
        project.plan()


def test_the_readmes_preset_for_own_images_is_valid_with_what_it_compares(project: Project) -> None:
    shutil.copytree(REPOSITORY / "config", project.folder / "config", dirs_exist_ok=True)
    project.preset_path.unlink()  # the README's preset does not need it
    blocks = (REPOSITORY / "README.md").read_text().split("```yaml\n")[1:]
    (project.folder / "config" / "mine.yaml").write_text("".join(block.split("```")[0] for block in blocks))
    plan = load_plans()[0]["results/mine"]
    assert plan.data["cifar10"].settings.name == "flowers"
    assert plan.net("student/3").spec.iterations == 210
    assert plan.preset.tables["lambda"].rows["stage1.weight = 10"] == "student_own_stage1_weight_10"


def test_a_method_with_a_setting_that_can_be_changed_is_named(project: Project) -> None:
    """Runs are told apart by their settings, which must not change; a list in a method of one's own could."""
    preset = load_preset(project.preset_path)
    row = preset.rows["fitnet"]
    stage2 = row.stage2.model_copy(update={"temperature": [4.0]})
    rows = {**preset.rows, "fitnet": row.model_copy(update={"stage2": stage2})}
    (problem,) = problems(preset.model_copy(update={"rows": rows}))
    assert problem.startswith("rows.fitnet.stage2.method = 'kd': a setting of it is a list")
    assert "Declare it in fspkd.distill.kd, for a list of names for example as Annotated[tuple[str, ...]" in problem


def test_the_preset_that_stops_by_validation_in_the_docs_is_valid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    (block,) = (REPOSITORY / "docs" / "method.md").read_text().split("```yaml\n")[1:]
    Path("config/mine.yaml").write_text(block.split("```")[0])
    plan = Plan(load_preset(Path("config/mine.yaml")))
    net = plan.net("mnist_fitnet/1")
    for run in (net, net.stage1):
        assert (run.spec.training.stop.patience, run.spec.training.stop.every) == (3900, 39)
    assert net.teacher.spec.training.stop is None


@pytest.mark.parametrize(
    ("role", "row", "message"),
    [
        ("teachers", "student", "must be a row without stage1"),
        ("students", "fitnet", "must be a row with a stage1 of method: fsp"),
        ("students", "nobody", "no such entry in rows"),
        ("shuffled_students", "teacher", "must be a row with a stage1 of method: fsp"),
    ],
)
def test_a_time_comparison_of_other_rows_is_refused(project: Project, role: str, row: str, message: str) -> None:
    project.set(f"timings.timing.{role}", row)
    with pytest.raises(UserError, match=rf"tiny.yaml: timings.timing.{role} = '{row}': {message}"):
        project.plan()


def test_a_time_comparison_of_nets_that_a_teacher_helps_to_the_end_is_refused(project: Project) -> None:
    """It counts the seconds of each last stage as those of plain training."""
    project.set("rows.student.stage2", {"method": "kd", "teacher": "teacher/1", "schedule": "short"})
    with pytest.raises(UserError, match=r"students = 'student': must start from scratch and end with cross_entropy"):
        project.plan()


def test_a_time_comparison_of_nets_with_a_teacher_each_is_refused(project: Project) -> None:
    project.set("rows.student.stage1_shared", False)
    project.set("rows.student.stage1.teacher", "teacher")
    with pytest.raises(
        UserError, match=r"shuffled_students = 'student': its nets must share one teacher, and have one each"
    ):
        project.plan()


def test_rows_in_a_circle_are_refused(project: Project) -> None:
    project.set("timings.timing", None)
    project.set("rows.teacher.stage2", {"method": "kd", "teacher": "teacher", "schedule": "long"})
    with pytest.raises(UserError, match=r"circle: teacher -> teacher"):
        project.plan()
    project.set("rows.teacher.stage2.teacher", "student/1")
    with pytest.raises(UserError, match=r"circle: (teacher -> student -> teacher|student -> teacher -> student)"):
        project.plan()


def test_teacher_and_student_that_do_not_fit_are_refused(project: Project) -> None:
    project.set("networks.wide", {"architecture": "cifar_resnet", "depth": 8, "width": 8})
    project.set("rows.student.network", "wide")
    with pytest.raises(
        UserError,
        match=r"student-stage1: learns FSP matrices of layers with 4, 4, 8, 16 channels with .* 8, 8, 16, 32 there",
    ):
        project.plan()
    project.set("rows.student.network", "net")
    project.set("rows.student.stage1.layers", "module")
    with pytest.raises(UserError, match=r"needs sections of two modules"):
        project.plan()


MAXOUT = {"architecture": "maxout", "layers": [{"conv": 4, "kernel": 3, "pool": 4}, {"full": 8}]}


@pytest.mark.parametrize(
    ("stage", "method", "message"),
    [
        ("stage1", {"method": "fsp"}, "compares the ends of sections, and maxout3 has none. Give an imagenet_resnet"),
        (
            "stage1",
            {"method": "hint", "sections": [1]},
            "compares the ends of sections, and maxout3 has none. Give an imagenet_resnet",
        ),
        (
            "stage2",
            {"method": "attention_transfer"},
            "compares the ends of sections, and maxout3 has none. Give an imagenet_resnet",
        ),
        (
            "stage2",
            {"method": "relational_kd"},
            "method 'relational_kd' reads 'pooled': maxout3 has no such layer; available: layer1, layer2, logits",
        ),
    ],
)
def test_methods_that_need_what_maxout_networks_lack_are_refused(
    project: Project, stage: str, method: dict, message: str
) -> None:
    """As student, as teacher and as both."""
    last = {"method": "cross_entropy", "schedule": "short"}
    project.set("networks.maxout", MAXOUT)
    project.set("rows.maxout", {"data": "images", "network": "maxout", "nets": 1, "stage2": last})
    for network, teacher in (("maxout", "teacher/1"), ("net", "maxout/1"), ("maxout", "maxout/1")):
        stages = {"stage2": last} | {stage: {**method, "teacher": teacher, "schedule": "first"}}
        project.set("rows.wrong", {"data": "images", "network": network, "nets": 1, **stages})
        with pytest.raises(UserError, match=f"wrong[a-z0-9-]*: {message}"):
            project.plan()


def test_networks_whose_maps_would_vanish_are_refused(project: Project) -> None:
    project.set("networks.maxout", MAXOUT)
    stage2 = {"method": "cross_entropy", "schedule": "short"}
    project.set("rows.maxout", {"data": "images", "network": "maxout", "nets": 1, "stage2": stage2})
    run = project.plan().net("maxout/1")
    run.check_size((6, 6))
    with pytest.raises(
        UserError,
        match=r"run maxout-1-\w+: images of 'digits', 8x5 pixels: maxout3, layer1: pool = 4 does not fit .* 6x3",
    ):
        run.check_size((5, 8))


def test_guided_layers_that_are_smaller_than_their_hints_are_refused(project: Project) -> None:
    """Also if smaller in one direction only; not if the maps are the same size."""
    project.set("networks.maxout", {"architecture": "maxout", "layers": [{"conv": 4, "kernel": 4}]})
    last = {"method": "cross_entropy", "schedule": "short"}
    hint = {"method": "hint", "teacher": "teacher/1", "schedule": "first", "guided": "layer1", "hint": "section2"}
    project.set("rows.thin", {"data": "images", "network": "maxout", "nets": 1, "stage1": hint, "stage2": last})
    run = project.plan().net("thin/1").start
    run.check_size((8, 6))  # 5x3 and 4x3
    with pytest.raises(
        UserError,
        match=r"run thin-stage1-\w+: images of 'digits', 4x8 pixels: the guided layer layer1 has maps of 1x5 and the hint "
        r"section2 of 2x4, and a regressor makes maps no larger. Guide an earlier layer, or take a later hint",
    ):
        run.check_size((8, 4))


def test_command_reports_one_paragraph_without_a_traceback(project: Project) -> None:
    project.set("seed", -1)
    shutil.copytree(REPOSITORY / "scripts", project.folder / "scripts")
    command = [sys.executable, "scripts/train.py", "results/tiny", "teacher-1-0000000000"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: config/tiny.yaml: seed = -1:")
    assert "Traceback" not in result.stderr
