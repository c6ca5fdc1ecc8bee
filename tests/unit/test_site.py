"""The settings of a SLURM site."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm as plugin
from conftest import REPOSITORY
from snakemake.common.tbdstring import TBDString

from fspkd.errors import UserError
from fspkd.slurm import queue
from fspkd.slurm.executor import mend_executor
from fspkd.slurm.queue import describe_queue
from fspkd.slurm.site import Site, check_site, gpu_models, load_site


@pytest.mark.parametrize(
    ("gres", "models"),
    [
        ("gpu:a100:4(S:0-1)", ["a100"]),
        ("gpu:tesla:2(S:0,3),gpu:k80:1,nvme:1", ["tesla", "k80"]),
        ("gpu:4", [""]),
        ("(null)", []),
    ],
)
def test_gpu_models_of_a_cluster(gres: str, models: list[str]) -> None:
    assert gpu_models(gres) == models


def test_a_site_that_says_nothing_has_the_documented_defaults() -> None:
    resources = load_site(Path("none.yaml")).resources(lambda: 3)
    assert (resources["checkpoint_seconds"], resources["mem_mb"]) == (30, 8000)
    assert [resources["runtime"](None, attempt) for attempt in (1, 4)] == [60, 240]


@pytest.mark.parametrize(
    ("retries", "asked"), [(0, [50]), (1, [25, 50]), (3, [13, 25, 38, 50]), (99, [13, 25, 38, 50, 50])]
)
def test_the_last_of_so_many_attempts_asks_for_all_of_the_time(retries: int, asked: list[int]) -> None:
    runtime = Site(runtime=50).resources(lambda: retries)["runtime"]
    assert [runtime(None, attempt) for attempt in range(1, len(asked) + 1)] == asked
    assert runtime(None, retries + 1) == 50
    assert Site(runtime=50).resources(lambda: 0)["runtime"](None, retries + 1) == 50  # inside a job


def test_a_gpu_model_that_sbatch_would_misread_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("gpu_model: a100 80GB\n")
    with pytest.raises(UserError, match=r"site.yaml: gpu_model: must be letters, digits, _ and \. .* is 'a100 80GB'"):
        load_site(site)


def test_a_slice_of_a_gpu_is_asked_for_in_the_place_of_one(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("gres: gpu:1g.10gb:1\n")
    asked = load_site(site)
    assert "--gres=gpu:1g.10gb:1" in asked.options()
    assert not any(option.startswith("--gpus") for option in asked.options())
    assert asked.resources(lambda: 3)["gres"] == "gpu:1g.10gb:1"
    assert "gpu" not in asked.resources(lambda: 3)
    for content, message in (
        ("gres: gpu:1 --wrap=x\n", "site.yaml: gres: must be a generic resource"),
        (
            "gres: shard:1\ngpu_model: a100\n",
            "gres = 'shard:1' and gpu_model = 'a100': only one of the two can be given",
        ),
    ):
        site.write_text(content)
        with pytest.raises(UserError, match=message):
            load_site(site)


def test_what_a_job_asks_for_is_what_snakemake_makes_of_the_settings() -> None:
    """Its options and profiles give more, such as --default-resources, or change some, such as --set-resources."""
    site = Site(slurm_partition="gpu", mem_mb=4000)
    asked = site.as_asked({"slurm_account": "vision", "runtime": 60, "mem_mb": TBDString(), "tmpdir": "/tmp", "gpu": 1})
    assert asked == Site(slurm_partition="gpu", mem_mb=4000, slurm_account="vision", runtime=60)
    assert {"--account=vision", "--partition=gpu", "--time=60", "--mem=4000"} < set(asked.options())
    assert site.as_asked({"slurm_partition": 100}).options()[0] == "--partition=100"
    with pytest.raises(UserError, match=r"Snakemake's options and profiles: slurm_extra: .*No closing quotation"):
        site.as_asked({"slurm_extra": "--comment='x"})


def test_an_option_that_snakemake_sets_itself_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"slurm_extra = '--exclude=a --nodes=1': Snakemake sets the number of nodes itself"
    ):
        check_site(Site(slurm_extra="--exclude=a --nodes=1"), print)


def answer_as(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    command = folder / "bin" / name
    command.parent.mkdir(exist_ok=True)
    command.write_text("\n".join(["#!/bin/sh", *(f"echo '{line}'" for line in lines)]))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)


@pytest.mark.parametrize(("answer", "warned"), [("Slurm accounting storage is disabled", True), ("7|RUNNING", False)])
def test_a_cluster_without_accounts_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, warned: bool
) -> None:
    """There sacct, which Snakemake asks how jobs ended, fails each time."""
    answer_as("sbatch", tmp_path, monkeypatch)
    answer_as("sinfo", tmp_path, monkeypatch, "gpu* infinite")
    answer_as("sacct", tmp_path, monkeypatch, answer)
    told = []
    with (tmp_path / "bin/sacct").open("a") as script:
        script.write(" >&2\nexit 1\n")
    check_site(Site(), told.append)
    assert ["--slurm-status-command squeue" in text for text in told] == [True] * warned


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [("infinite", None), ("30:00", 30), ("4:00:00", 240), ("1-00:00:00", 1440), ("2-12:30:00", 3630)],
)
def test_a_job_longer_than_its_partition_allows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, minutes: int | None
) -> None:
    answer_as("sbatch", tmp_path, monkeypatch)
    answer_as("sacct", tmp_path, monkeypatch)
    answer_as("sinfo", tmp_path, monkeypatch, f"gpu* {limit}")
    check_site(Site(runtime=minutes or 100_000), print)
    if minutes:
        with pytest.raises(UserError, match=rf"the partition allows {minutes} minutes"):
            check_site(Site(runtime=minutes + 1), print)


def test_a_gpu_whose_nodes_are_away_is_waited_for_and_one_that_no_node_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_as("sbatch", tmp_path, monkeypatch)
    with (tmp_path / "bin/sbatch").open("a") as script:
        script.write("\necho 'Requested node configuration is not available' >&2\nexit 1\n")
    answer_as("sacct", tmp_path, monkeypatch)
    answer_as("sinfo", tmp_path, monkeypatch, "gpu* gpu:a100:4")
    told: list[str] = []
    with pytest.raises(UserError, match="would reject it: Requested node configuration"):
        check_site(Site(gpu_model="h100"), told.append)
    check_site(Site(gpu_model="a100"), told.append)
    assert [text[-19:] for text in told] == ["The jobs will wait."]


def test_the_job_that_snakemake_runs_in_is_none_of_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path.cwd()
    lines = (f"7|RUNNING|None|{here}", f"8|PENDING|Priority|{here}", "9|RUNNING|None|/elsewhere")
    answer_as("squeue", tmp_path, monkeypatch, *lines)
    assert describe_queue() == "SLURM: running: 7, wait (Priority): 8"
    monkeypatch.setattr(queue, "OWN_JOB", "7")
    assert describe_queue() == "SLURM: wait (Priority): 8"


def test_a_job_that_asks_for_more_time_than_an_account_allows_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_as("squeue", tmp_path, monkeypatch, f"8|PENDING|QOSMaxWallDurationPerJobLimit|{Path.cwd()}")
    assert describe_queue().endswith("they wait for ever: lower runtime in slurm/site.yaml")


def test_a_job_that_is_preempted_and_not_queued_again_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that is queued again is not; however many there are, the queue is asked once each time, until it is known."""
    states = {"1": "PREEMPTED", "2": "PREEMPTED", "3": "CANCELLED by 1000", "4": "RUNNING"}

    async def query(command: str, logger: object) -> tuple[dict[str, str], float]:
        return dict(states), 0.1

    for name in ("cancel_jobs", "next_seconds_between_status_checks"):
        monkeypatch.setattr(plugin.Executor, name, getattr(plugin.Executor, name))
    monkeypatch.setattr(plugin, "get_account", plugin.get_account)
    monkeypatch.setattr(plugin, "query_job_status", query)
    answer_as("squeue", tmp_path, monkeypatch, "2", "4")
    with (tmp_path / "bin/squeue").open("a") as script:
        script.write(f"\necho >> {tmp_path}/asked\n")
    mend_executor()
    seen = [asyncio.run(plugin.query_job_status("sacct", None))[0] for _ in range(6)]
    assert [look["1"] for look in seen] == 2 * ["PREEMPTED"] + 4 * ["CANCELLED"]
    assert seen[-1] == {"1": "CANCELLED", "2": "PREEMPTED", "3": "CANCELLED", "4": "RUNNING"}
    states["2"] = "RUNNING"
    asyncio.run(plugin.query_job_status("sacct", None))
    assert len((tmp_path / "asked").read_text()) == 6


def link_makefile(folder: Path) -> None:
    """Link the Makefile, and what it installs from, into a folder."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).symlink_to(REPOSITORY / name)


def test_the_environment_is_not_made_anew_while_jobs_run_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link_makefile(tmp_path)
    (tmp_path / ".venv").mkdir()
    answer_as("squeue", tmp_path, monkeypatch, "/elsewhere", str(tmp_path))
    made = subprocess.run(["make", ".venv/ready"], cwd=tmp_path, capture_output=True, text=True)
    assert "jobs run from it (squeue --me)" in made.stdout
    assert made.returncode != 0
    assert (tmp_path / ".venv").exists()


def test_the_environment_stays_where_no_python_fits(tmp_path: Path) -> None:
    """Also in a folder whose name a shell would take apart."""
    folder = tmp_path / "a (1) & b's"
    (folder / ".venv").mkdir(parents=True)
    link_makefile(folder)
    made = subprocess.run(["make", ".venv/ready", "PYTHON=/bin/false"], cwd=folder, capture_output=True, text=True)
    assert "/bin/false does not fit: needed is Python 3.11 or 3.12" in made.stdout
    assert (folder / ".venv").exists()


def test_packages_from_elsewhere_do_not_reach_what_make_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they have the environment made anew."""
    folder = tmp_path / "a (1) & b's"
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "scripts").mkdir()
    (folder / "scripts/write_schema.py").write_text("import os; print(os.environ.get('PYTHONPATH'))")
    link_makefile(folder)
    (folder / ".venv/ready").write_text(f"{folder}\n")
    (tmp_path / "fspkd.py").write_text("raise ImportError('another package')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    made = subprocess.run(["make", "schema", "PYTHON=/bin/false"], cwd=folder, capture_output=True, text=True)
    assert "None" in made.stdout.splitlines(), made.stdout + made.stderr


@pytest.mark.parametrize(("says", "stays"), [("echo warning >&2", True), ("exit 1", False)])
def test_the_environment_is_made_anew_if_its_python_is_gone_not_if_it_warns(
    tmp_path: Path, says: str, stays: bool
) -> None:
    """As a loader does that cannot preload a library."""
    link_makefile(tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{says}\n")
    python.chmod(0o755)
    (tmp_path / ".venv/ready").write_text(f"{tmp_path}\n")
    subprocess.run(["make", "--dry-run", "help"], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / ".venv/ready").exists() == stays
