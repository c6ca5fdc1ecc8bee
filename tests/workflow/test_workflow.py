"""The workflow as users run it: snakemake on the rules, scripts and profile of this repository."""

import os
import platform
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY, WORKFLOW, Project
from mlflow import MlflowClient
from shortages import small_disk

from fspkd.data.packed import load_packed, save_packed
from fspkd.tracking.follow import FOLLOWED
from fspkd.workflow.training import run_outputs

RESULTS = tuple(f"results/tiny/{name}" for name in ("table1.csv", "figure3.png", "timing.csv", "summary.html"))
MADE = re.compile(r"^train results/runs/\w+/(\S+)-[0-9a-f]{10}: (\d+) iterations", re.MULTILINE)


def planned(text: str) -> list[tuple[str, int]]:
    """The trainings that snakemake announces: names and iterations."""
    return [(stream, int(iterations)) for stream, iterations in re.findall(MADE, re.sub(r"Job \d+: ", "", text))]


def said(project: Project, *arguments: str) -> str:
    """The output of a snakemake that must succeed."""
    result = project.run("snakemake", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_paper_preset_plans_the_published_iterations(project: Project) -> None:
    shutil.rmtree(project.folder / "config")
    for name in (*WORKFLOW, "config"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project.folder / name)
    result = project.run("snakemake", "-n", "results/table1.csv")
    assert result.returncode == 0, result.stderr
    total = Counter()
    for stream, iterations in planned(result.stdout + result.stderr):
        total[stream.split("-")[0]] += iterations
    assert total == {
        "teacher": 192_000,
        "teacher_third": 63_000,
        "teacher_again": 63_000,
        "fitnet_1_loss": 98_000,
        "fitnet_3_losses": 98_000,
        "student": 84_000,
        "student_shuffled": 126_000,
    }


def test_from_nothing_to_the_table_then_only_what_changed(workflow: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(workflow.folder / "data")
    first = workflow.run("snakemake", *RESULTS, FSPKD_DATA_DIGITS="")
    assert first.returncode == 0, first.stdout + first.stderr
    table = pd.read_csv(RESULTS[0])
    assert list(table["row"]) == ["Teacher", "FitNet, 1 loss*", "Student*"]
    assert list(table["iterations"]) == [40, 18, 26]
    labels = None
    for net, run in enumerate(workflow.plan().rows["student"], 1):
        with np.load(run.folder.predictions) as file:
            labels = file["labels"]
            accuracy = 100 * (file["logits"].argmax(1) == labels).mean()
        assert table.loc[2, f"net{net}"] == pytest.approx(accuracy, abs=0.005)
    assert len(labels) == 450
    assert Path("results/tiny/figure3.svg").exists()
    timing = pd.read_csv(RESULTS[2]).set_index("what")
    normal, stage1 = (timing["value"][key] for key in timing.index[:2])
    assert timing["value"]["Teacher, normal training"] == pytest.approx(40 * normal / 360_000, rel=1e-2)
    normal, stage1 = (timing.loc[key].filter(regex=r"round\d").astype(float) for key in timing.index[:2])
    assert timing["value"]["speed-up of Student* over Teacher, on the fly"] == pytest.approx(
        np.exp(np.log(40 * normal / (10 * stage1 + 16 * normal)).mean()), rel=1e-4
    )
    assert timing["published"]["speed-up of Student* with saved FSP"] == 2.18
    claims = pd.read_csv("results/tiny/claims.csv").set_index("claim")
    assert claims.loc["claim 1", "ours"] == pytest.approx(table["average"][2] - table["average"][0], abs=0.02)
    page = Path(RESULTS[3]).read_text()
    for text in ("A tiny table", "A tiny figure", "data:image/svg+xml", "undecided at n = 1", "weight_decay: 0.0001"):
        assert text in page
    assert not re.search(r"(src|href)=.?https?:", page)  # offline
    client = MlflowClient(f"sqlite:///{workflow.folder}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("fspkd-tiny").experiment_id])
    assert {"Teacher", "Student*", "Student*, net 2", "table1"} <= {run.info.run_name for run in runs}
    before = workflow.checksums()
    assert len(before) == 7  # two teachers, and the stage 1 and the nets of two rows

    monkeypatch.setenv(FOLLOWED, "1")  # what MLflow has was checked above
    again = workflow.run("snakemake", *RESULTS)
    assert "Nothing to be done" in again.stdout + again.stderr

    row = {"data": "images", "network": "net", "nets": 1, "stage2": {"method": "cross_entropy", "schedule": "short"}}
    workflow.set("rows.short", row)
    workflow.set("tables.table1.rows.Teacher*", "short")
    workflow.set("figures.figure3.title", "Another title")
    panels = {"All": {"Alone": ["teacher"], "Taught": ["student"]}}
    workflow.set("figures.figure2", {"kind": "depth", "title": "Over depth", "panels": panels})
    profile = workflow.folder / "profiles" / "default" / "config.yaml"
    profile.write_text(profile.read_text().replace("cores: all", "cores: 1"))
    changed = workflow.run("snakemake", *RESULTS)
    assert changed.returncode == 0, changed.stdout + changed.stderr
    assert planned(changed.stdout + changed.stderr) == [("short-1", 8)]
    points = pd.read_csv("results/tiny/figure2.csv").groupby("method")["accuracy"].mean()
    assert points["Taught"] == pytest.approx(pd.read_csv(RESULTS[0])["average"][2], abs=0.005)
    assert not Path("results/tiny/figure2_flat.csv").exists()
    assert "Over depth" in Path(RESULTS[3]).read_text()
    assert before.items() <= workflow.checksums().items()

    # Grouping nets into jobs retrains none; test_dvc.py shows that from scratch they get the same bits.
    grouped = workflow.run("snakemake", *RESULTS, "--config", "members=3")
    assert "Nothing to be done" in grouped.stdout + grouped.stderr


@pytest.mark.usefixtures("not_followed")
def test_a_net_that_is_gone_is_trained_again(made: Project) -> None:
    """Also if only a file of it is gone, though the table is newer than the rest."""
    before, target = made.checksums(), "results/tiny/table1.csv"
    made.run("snakemake", "--touch", target)
    folder = made.plan().net("student/1").folder
    for gone in (folder.weights, folder.predictions):
        content = gone.read_bytes()
        gone.unlink()
        assert planned(said(made, "-n", target)) == [("student-1", 8)]
        gone.write_bytes(content)
        os.utime(gone, (0, 0))
    shutil.rmtree(folder)
    assert planned(said(made, target)) == [("student-1", 8)]
    assert made.checksums() == before
    assert "Nothing to be done" in said(made, "-n", target)


@pytest.mark.usefixtures("not_followed")
@pytest.mark.parametrize("fails", ["before it trains", "after its first net"])
def test_nets_whose_training_failed_are_not_taken_as_made_from_the_images_that_are_there_now(
    made: Project, fails: str
) -> None:
    """Nor are files put back that the training has removed, or made anew."""
    target, plan = "results/tiny/table1.csv", made.plan()
    made.run("snakemake", "--touch", target)
    data = plan.net("teacher/1").data
    packed = load_packed(data.path)
    packed.images["train"][0] ^= 1
    save_packed(packed, data.path)
    script, first = Path("scripts/train.py"), plan.net("teacher/1").folder
    content = script.read_text()
    begun = f"import os; os.remove({str(first.manifest)!r}); open({str(first.weights)!r}, 'w').write('new'); "
    script.write_text(f"{begun if fails == 'after its first net' else ''}raise SystemExit(1)\n")
    failed = made.run("snakemake", target, "--config", "members=2")
    assert failed.returncode == 1
    if fails == "after its first net":
        assert first.weights.read_text() == "new"
        assert not first.manifest.exists()
    script.write_text(content)
    again = {run for run, _ in planned(said(made, "-n", target))}
    assert {"teacher-1", "teacher-2"} <= again


@pytest.mark.usefixtures("not_followed")
def test_results_are_made_again_by_other_code_than_they_are_made_of(
    made: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other results, and nets, are not."""
    shutil.copytree(REPOSITORY / "src", "src")
    monkeypatch.setenv("PYTHONPATH", str(made.folder / "src"))
    targets, report = ("results/tiny/table1.csv", "results/tiny/figure3.png"), Path("src/fspkd/report")
    said(made, "--touch", *targets)
    for changed, rules in (
        ("seeds.py", {"figure_curves"}),
        ("table.html.j2", {"table"}),
        ("stats.py", {"figure_curves", "table"}),
        ("depth.py", set()),
    ):
        content = (report / changed).read_bytes()
        (report / changed).write_bytes(content + b"\n")
        jobs = re.findall(r"^(\w+) +1$", said(made, "-n", *targets), re.MULTILINE)
        assert set(jobs) - {"total"} == rules, changed
        (report / changed).write_bytes(content)


@pytest.mark.usefixtures("not_followed")
def test_jobs_here_share_no_gpu_unless_they_are_told_to(workflow: Project) -> None:
    """As many train at once as there are GPUs; here the one GPU and the training are faked."""
    driver = workflow.folder / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A100 (UUID: GPU-1)'\n")
    driver.chmod(0o755)
    runs = workflow.plan().nets("teacher")
    outputs = {run.id: run_outputs(run) for run in runs}
    touch = f"import pathlib, sys\nfor file in {outputs}[sys.argv[2]]:\n    pathlib.Path(file).touch()\n"
    (workflow.folder / "scripts" / "train.py").write_text(touch)
    targets = ("--cores", "2", *(str(run.folder.weights) for run in runs))
    path = f"{driver.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ("env", "-u", "CUDA_VISIBLE_DEVICES", f"PATH={path}", "snakemake", *targets)
    one = workflow.run(*command)
    assert one.returncode == 0, one.stdout + one.stderr
    assert "Execute 2 jobs" not in one.stderr
    shutil.rmtree("results")
    several = workflow.run(*command, "--resources", "gpu=2")
    assert "Execute 2 jobs" in several.stderr


@pytest.mark.usefixtures("not_followed")
def test_what_trains_asks_for_huge_pages(workflow: Project) -> None:
    """Linux flags its memory accordingly; a user's own settings of glibc are left alone."""
    given = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not (given.exists() and "[madvise]" in given.read_text() and platform.libc_ver() >= ("glibc", "2.35")):
        pytest.skip("no huge pages for those who ask for them")
    run = workflow.plan().net("teacher/1")
    script = f"""
        import pathlib
        kept = bytearray(2**26)
        pathlib.Path("smaps").write_text(pathlib.Path("/proc/self/smaps").read_text())
        for file in {run_outputs(run)}:
            pathlib.Path(file).touch()
    """
    (workflow.folder / "scripts" / "train.py").write_text(textwrap.dedent(script))

    def megabytes_marked(**environment: str) -> int:
        shutil.rmtree("results", ignore_errors=True)
        ended = workflow.run("snakemake", str(run.folder.weights), **environment)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        sizes = re.findall(r"^Size: +(\d+) kB\n(?:.*\n)*?VmFlags:(.*)$", Path("smaps").read_text(), re.MULTILINE)
        return sum(int(kilobytes) for kilobytes, flags in sizes if "hg" in flags.split()) // 1024

    assert megabytes_marked() >= 64
    assert megabytes_marked(GLIBC_TUNABLES="glibc.malloc.check=0") == 0


@pytest.mark.usefixtures("not_followed")
def test_nets_of_other_code_are_told_once(made: Project) -> None:
    assert "version of the code" not in said(made, "-n", "results/tiny/table1.csv")
    damaged, *others = made.plan().nets("student") + made.plan().nets("fitnet")
    damaged.folder.manifest.write_text("{")
    for run in others:
        manifest = run.folder.read_manifest()
        other = manifest.attempts[0].model_copy(update={"code_sha256": {"engine": "0"}})
        run.folder.write_manifest(manifest.model_copy(update={"attempts": (other,)}))
    told = said(made, "-n", "results/tiny/table1.csv", "results/tiny/figure3.png")
    message = "2 of these nets were trained by another version of the code and are kept as they are (fitnet-1-"
    assert told.count(message) == 1


def test_without_a_target_there_is_an_overview(made: Project) -> None:
    result = made.run("snakemake")
    assert result.returncode == 0
    folder, results, trained, left, *names = result.stdout.splitlines()[1].split()
    assert (folder, results, trained, left) == ("results/tiny", "2/5", "7/7", "0")
    assert names == ["table1", "figure3", "timing", "claims"]


def test_a_rule_in_snakefile_itself_takes_the_place_of_the_overview(made: Project) -> None:
    with (made.folder / "Snakefile").open("a") as snakefile:
        snakefile.write("rule all:\n    input: 'results/tiny/figure3.png'\n    localrule: True\n")
    assert re.search(r"^all +1$", said(made, "-n"), re.MULTILINE)


def test_a_target_that_nothing_makes_and_a_preset_that_is_not_valid_are_told(made: Project) -> None:
    (made.folder / "config" / "mine.yaml").write_text("extends: tiny\nresults: results/mine\nsede: 3\n")
    (made.folder / "config" / "twin.yaml").write_text("extends: tiny\n")
    valid = said(made, "-n", "./results/tiny//table1.csv")
    assert "skipped: config/mine.yaml: sede = 3: unknown key" in valid
    assert "skipped: config/twin.yaml: results = 'results/tiny': config/tiny.yaml writes there already" in valid
    made_before = made.folder / "results" / "mine" / "table1.csv"
    made_before.parent.mkdir()
    made_before.touch()
    invalid = made.run("snakemake", "-n", "results/mine/table1.csv")
    shutil.rmtree(made_before.parent)
    assert invalid.returncode == 1
    assert (invalid.stdout + invalid.stderr).count("config/mine.yaml: sede = 3: unknown key") == 1
    assert "did you mean" not in invalid.stdout + invalid.stderr
    for name in ("mine", "twin"):
        (made.folder / "config" / f"{name}.yaml").unlink()
    made.set("claims", ...)
    for name, told in (("tabel1.csv", "; did you mean 'results/tiny/table1.csv'?"), ("claims.png", "")):
        result = made.run("snakemake", "-n", f"results/tiny/{name}")
        assert result.returncode == 1
        assert f"results/tiny/{name}: no rule makes this file{told}" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rows.student.stage1.lamda", 1.0, "rows.student.stage1.lamda = 1.0: unknown key"),
        ("rows.student.stage1.teacher", ..., "rows.student.stage1.teacher: missing"),
    ],
)
def test_a_wrong_preset_is_an_error_before_anything_runs(
    workflow: Project, key: str, value: object, message: str
) -> None:
    workflow.set(key, value)
    result = workflow.run("snakemake", *RESULTS)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert message in text
    assert "config/tiny.yaml" in text
    assert "Traceback" not in text
    assert not Path("results").exists()


def test_a_missing_data_folder_is_told_and_nothing_is_trained(workflow: Project) -> None:
    result = workflow.run("snakemake", *RESULTS, FSPKD_DATA_DIGITS="/no/where")
    assert result.returncode != 0
    assert "error: FSPKD_DATA_DIGITS = '/no/where': no such file or folder" in result.stdout + result.stderr
    assert not Path("results/runs").exists()


@pytest.mark.usefixtures("not_followed")
def test_a_full_disk_loses_nothing(workflow: Project) -> None:
    workflow.train("teacher/1")
    run = workflow.plan().net("teacher/1")
    expected = workflow.checksums()
    shutil.rmtree(run.folder)
    run.folder.path.mkdir()
    command = ("python", "scripts/train.py", "results/tiny", run.id, "--checkpoint-seconds", "0")
    with small_disk(run.folder, "48k"):
        full = workflow.run(*command)
        assert full.returncode == 1, full.stdout + full.stderr
        assert re.search(r"error: results/runs/\S+: cannot be written:\s+No\s+space\s+left\s+on\s+device", full.stderr)
        assert "Traceback" not in full.stderr
        left = {file.name for file in run.folder.path.iterdir()}
        assert left <= {
            "run.yaml",
            "lock",
            "metrics.partial.csv",
            "checkpoint.pt",
            "checkpoint.previous.pt",
            "journal.jsonl",
            "usage.csv",
        }
        subprocess.run(["mount", "-o", "remount,size=10m", run.folder], check=True)
        assert workflow.run(*command).returncode == 0
        assert workflow.checksums() == expected


@pytest.mark.usefixtures("not_followed")
def test_each_attempt_asks_slurm_for_its_part_of_the_time_and_for_one_processor(workflow: Project) -> None:
    """Here SLURM is faked, and refuses each job."""
    workflow.train("teacher/1", "teacher/2")
    (workflow.folder / "slurm").symlink_to("profiles/slurm")
    (workflow.folder / "bin").mkdir()
    asked = workflow.folder / "asked"
    sbatch = f'case "$*" in *--test-only*) ;; *) echo "$*" >> {asked}; exit 1 ;; esac'
    for name, script in (("sbatch", sbatch), ("sinfo", "echo 'gpu* infinite'"), ("squeue", ""), ("sacct", "")):
        command = workflow.folder / "bin" / name
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    path = f"PATH={workflow.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = workflow.run("env", path, "snakemake", "--profile", "slurm", "--retries", "1", "results/tiny/timing.csv")
    assert result.returncode == 1
    jobs = re.findall(r" -t (\d+) .*--cpus-per-task=(\d+)", asked.read_text())
    assert jobs == [("120", "1"), ("240", "1")], result.stdout + result.stderr
