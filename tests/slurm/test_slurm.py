"""The workflow on a real SLURM, started and stopped here: what a cluster may do to jobs."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest
from conftest import Project, project_in
from jobs import (
    OFTEN,
    TABLE,
    Reference,
    Snakemake,
    accounted,
    assert_sound,
    assert_tracked_once,
    attempts,
    one_long_net,
    processes_in,
    set_site,
    slurm,
    tracked_nets,
    training_process,
    wait_until,
)
from servers import Server

CLUSTER = Path(__file__).with_name("cluster.sh")

pytestmark = pytest.mark.skipif(
    shutil.which("slurmctld") is None or os.geteuid() != 0, reason="needs SLURM's daemons, and root to run them"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """The folder of a running cluster, which SLURM's commands find; each test process has its own."""
    folder = Path(tempfile.mkdtemp(prefix="fspkd-slurm-"))
    folder.chmod(0o755)  # MariaDB runs as another user
    environment = {**os.environ, "SLURM_TEST_FOLDER": str(folder)}
    try:
        subprocess.run([CLUSTER, "start"], env=environment, check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            patch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
            yield folder
    finally:
        subprocess.run([CLUSTER, "stop"], env=environment, check=True)
        shutil.rmtree(folder)


@pytest.fixture
def on_cluster(cluster: Path, workflow: Project) -> Iterator[Project]:
    """A project with the profile; what it leaves queued or running is ended."""
    (workflow.folder / "slurm").symlink_to("profiles/slurm")
    set_site(workflow)
    yield workflow
    for process in processes_in(workflow.folder):
        os.kill(process, signal.SIGKILL)
    subprocess.run(["scancel", "--user=root"], check=True)
    wait_until(lambda: not slurm("squeue", "--noheader"), "the queue is empty", 60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, packed_digits: Path) -> Reference:
    """The long net's checksum and metrics, as a local run makes them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        project = project_in(folder, packed_digits, patch)
        one_long_net(project)
        project.train("teacher/1")
        return project.checksums(), (project.plan().net("teacher/1").folder.metrics).read_bytes()


@contextmanager
def disturbed(project: Project, reference: Reference, *options: str) -> Iterator[Snakemake]:
    """Train one long net; the caller disturbs it after its first checkpoint; the outcome must be as if undisturbed."""
    one_long_net(project)
    snakemake = Snakemake(project, *options)
    snakemake.until_checkpoint()
    yield snakemake
    assert snakemake.end() == 0, snakemake.said()
    wait_until(lambda: not processes_in(project.folder), "no process is left", 30)
    assert_sound(project, reference)


@pytest.mark.usefixtures("not_followed")
def test_time_limit(on_cluster: Project, undisturbed: Reference) -> None:
    """The first attempt gets a minute, the second two."""
    set_site(on_cluster, runtime=4)
    with disturbed(on_cluster, undisturbed) as snakemake:
        job = snakemake.job()
        os.kill(training_process(on_cluster), signal.SIGSTOP)  # so that it is not done in time
        wait_until(lambda: "TIMEOUT" in slurm("sacct", "-Xnj", job, "--format=State"), "the time is up")
    assert attempts(on_cluster)[1].from_iteration > 0
    limits = accounted(snakemake.since)["Timelimit"]
    assert list(limits)[:2] == ["00:01:00", "00:02:00"]


def test_scancel(on_cluster: Project, undisturbed: Reference) -> None:
    with disturbed(on_cluster, undisturbed) as snakemake:
        os.kill(training_process(on_cluster), signal.SIGSTOP)  # so that it is not done before it is killed
        slurm("scancel", snakemake.job())
    assert [attempt.from_iteration > 0 for attempt in attempts(on_cluster)] == [False, True]


@pytest.mark.parametrize("partition", ["preemptible", "cancelling"])
def test_preemption(
    on_cluster: Project, undisturbed: Reference, partition: str, request: pytest.FixtureRequest
) -> None:
    """SLURM requeues the job or, in a partition that cancels, ends it and snakemake submits another."""
    if partition == "cancelling":
        request.getfixturevalue("not_followed")
    set_site(on_cluster, slurm_partition=partition)
    with disturbed(on_cluster, undisturbed) as snakemake:
        job = snakemake.job()
        os.kill(training_process(on_cluster), signal.SIGSTOP)  # so that it is not done before it is killed
        other = slurm("sbatch", "--parsable", "--partition=normal", "--gpus=2", "--wrap=sleep 3").strip()
        wait_until(lambda: "COMPLETED" in slurm("sacct", "-Xnj", other, "--format=State"), "the other job is done")
    first, second = attempts(on_cluster)
    assert second.from_iteration > 0
    assert first.job_id == job
    assert (second.job_id == job) == (partition == "preemptible")


@pytest.mark.usefixtures("not_followed")
def test_sigkill_of_the_training(on_cluster: Project, undisturbed: Reference) -> None:
    with disturbed(on_cluster, undisturbed):
        os.kill(training_process(on_cluster), signal.SIGKILL)
    assert attempts(on_cluster)[1].from_iteration > 0


@pytest.mark.usefixtures("not_followed")
def test_controller_is_away_for_a_while(on_cluster: Project, undisturbed: Reference) -> None:
    with disturbed(on_cluster, undisturbed):
        slurm("scontrol", "shutdown", "slurmctld")
        time.sleep(20)
        slurm("slurmctld")
    assert len(attempts(on_cluster)) == 1


@pytest.mark.usefixtures("not_followed")
def test_accounting_is_away_for_a_while(on_cluster: Project, undisturbed: Reference, cluster: Path) -> None:
    with disturbed(on_cluster, undisturbed):
        os.kill(int((cluster / "run" / "slurmdbd.pid").read_text()), signal.SIGTERM)
        time.sleep(25)
        subprocess.run([CLUSTER, "start"], env={**os.environ, "SLURM_TEST_FOLDER": str(cluster)}, check=True)
    assert len(attempts(on_cluster)) == 1


@pytest.mark.usefixtures("not_followed")
def test_node_is_drained_and_resumed(on_cluster: Project, undisturbed: Reference) -> None:
    """The running job continues; the next one is reported to wait."""
    node = ["scontrol", "update", "nodename=ALL"]
    with disturbed(on_cluster, undisturbed) as snakemake:
        job = snakemake.job()
        os.kill(training_process(on_cluster), signal.SIGSTOP)  # so that it is not done before it is killed
        slurm(*node, "state=drain", "reason=test")
        slurm("scancel", job)
        wait_until(lambda: re.search(r"SLURM: .*wait \(.*DRAINED", snakemake.said()), "the wait is told")
        slurm(*node, "state=resume")
    assert attempts(on_cluster)[1].from_iteration > 0


def test_snakemake_is_killed_and_started_again(on_cluster: Project, undisturbed: Reference) -> None:
    """The first one's job lives on; the second one's waits for it, then finds the net trained."""
    with disturbed(on_cluster, undisturbed) as snakemake:
        training, job = training_process(on_cluster), snakemake.job()
        os.kill(training, signal.SIGSTOP)  # so that it is not done too soon
        snakemake.process.kill()
        snakemake.process.wait()
        snakemake.start()
        wait_until(lambda: f"earlier jobs of this folder: {job}." in snakemake.said(), "it is told")
        log = Path("results/logs") / f"{on_cluster.plan().net('teacher/1').id}.log"
        # Snakemake removes the log before it submits, and the second job creates it again.
        wait_until(lambda: log.exists() and "waiting for it to end" in log.read_text(), "the second job waits")
        os.kill(training, signal.SIGCONT)
    assert len(attempts(on_cluster)) == 1
    assert list(accounted(snakemake.since)["State"]) == ["COMPLETED", "COMPLETED"]


@pytest.mark.usefixtures("not_followed")
def test_ctrl_c_cancels_a_job_while_its_state_is_asked_for(on_cluster: Project, undisturbed: Reference) -> None:
    asking = on_cluster.folder / "bin" / "sacct"
    asking.parent.mkdir()
    asking.write_text(f'#!/bin/sh\ntouch {asking.parent}/asked\nsleep 3\nexec {shutil.which("sacct")} "$@"\n')
    asking.chmod(0o755)
    one_long_net(on_cluster)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs would ignore
    snakemake = Snakemake(on_cluster, PATH=f"{asking.parent}:{os.environ['PATH']}")
    signal.signal(signal.SIGINT, before)
    snakemake.until_checkpoint()
    os.kill(training_process(on_cluster), signal.SIGSTOP)  # so that it is not done before it is cancelled
    (asking.parent / "asked").unlink(missing_ok=True)
    wait_until((asking.parent / "asked").exists, "the job's state is asked for")
    snakemake.process.send_signal(signal.SIGINT)
    assert snakemake.end() != 0
    wait_until(lambda: not slurm("squeue", "--noheader"), "no job is left", 60)
    asking.unlink()
    snakemake.start()
    assert snakemake.end() == 0, snakemake.said()
    assert attempts(on_cluster)[1].from_iteration > 0
    assert_sound(on_cluster, undisturbed)


@pytest.mark.usefixtures("not_followed")
def test_results_are_read_only_for_a_while(on_cluster: Project, undisturbed: Reference) -> None:
    results = str(on_cluster.folder / "results")
    Path(results).mkdir()
    with disturbed(on_cluster, undisturbed, "--retries", "1") as snakemake:
        try:
            slurm("mount", "--bind", results, results)
            slurm("mount", "-o", "remount,ro,bind", results)
            assert snakemake.end() == 1
        finally:
            slurm("umount", results)
        told = "checkpoint.pt: cannot be written: Read-only file system. Make the file system writable and run the same command"
        assert told in " ".join(snakemake.said().split())
        snakemake.start()
    assert attempts(on_cluster)[1].from_iteration > 0


@pytest.mark.usefixtures("not_followed")
def test_where_it_runs_changes_nothing(on_cluster: Project) -> None:
    """Two teachers and both stages of a student, a job for each net."""
    on_cluster.set("rows.student.nets", 1)
    on_cluster.set("tables.table1.rows", {"Teacher": "teacher", "Student*": "student"})
    on_cluster.set("claims", ...)
    since = time.time()
    (on_cluster.folder / "slurm" / "site.yaml").unlink()
    command = ["snakemake", "--profile", "slurm", TABLE, "--config", "members=1", *OFTEN]
    result = on_cluster.run(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = accounted(since).set_index("JobID")
    assert (jobs["State"] == "COMPLETED").all()
    assert jobs["AllocTRES"].str.contains("gres/gpu=1").all()
    runs = [run for run in on_cluster.plan().runs.values() if run.folder.is_finished]
    assert len(jobs) == len(runs) == 4  # the rest ran beside snakemake

    used = {run.folder.read_manifest().attempts[0].job_id: run.folder.read_manifest().attempts[0].gpu for run in runs}
    assert used.keys() == set(jobs.index)
    together = [
        (a, b)
        for a, b in combinations(jobs.index, 2)
        if jobs.loc[a, "Start"] < jobs.loc[b, "End"] and jobs.loc[b, "Start"] < jobs.loc[a, "End"]
    ]
    assert together
    assert all({used[a], used[b]} == {"0", "1"} for a, b in together)

    on_the_cluster, content = on_cluster.checksums(), Path(TABLE).read_bytes()
    shutil.rmtree("results")
    assert on_cluster.run("snakemake", TABLE).returncode == 0
    assert on_cluster.checksums() == on_the_cluster
    assert Path(TABLE).read_bytes() == content


def test_requeued_job_goes_on_in_its_tracked_run(on_cluster: Project, server: Server) -> None:
    """The tracking server hears of the net while it trains, before and after the requeue."""
    one_long_net(on_cluster)
    snakemake = Snakemake(on_cluster, MLFLOW_TRACKING_URI=server.address)
    snakemake.until_checkpoint()
    job = snakemake.job()
    os.kill(training_process(on_cluster), signal.SIGSTOP)
    wait_until(lambda: any(run.data.metrics for run in tracked_nets(server.address)), "the server has heard of the net")
    (before,) = tracked_nets(server.address)
    assert before.data.tags["job_id"] == job
    assert before.data.tags["gpu"] in ("0", "1")
    assert before.data.tags["host"] == os.uname().nodename
    slurm("scontrol", "requeue", job)
    assert snakemake.end() == 0, snakemake.said()
    assert attempts(on_cluster)[1].job_id == job
    assert_tracked_once(on_cluster, server.address)
    assert tracked_nets(server.address)[0].info.run_id == before.info.run_id


@pytest.mark.parametrize(
    ("settings", "options", "told"),
    [
        ({"slurm_account": "nobody"}, (), "Invalid account or account/partition combination"),
        ({"slurm_partition": "fast"}, (), "Invalid partition name"),
        ({}, ("--default-resources", "slurm_partition=fast"), "Invalid partition name"),
        ({"gpu_model": "h100"}, (), "Requested node configuration is not available"),
        ({"runtime": 2000}, (), "the partition allows 1440 minutes"),
        ({}, ("--set-resources", "RULE:runtime=2000"), "the partition allows 1440 minutes"),
        ({"slurm_acount": "research"}, (), "slurm_acount = 'research': unknown key"),
    ],
)
def test_what_slurm_would_refuse_is_told_before_anything_runs(
    on_cluster: Project, settings: dict[str, str], options: tuple[str, ...], told: str
) -> None:
    set_site(on_cluster, **settings)
    started = time.time()
    rule = f"train_{on_cluster.plan().net('teacher/1').id.replace('-', '_')}"  # of a job of several nets
    options = tuple(option.replace("RULE", rule) for option in options)
    result = on_cluster.run("snakemake", "--profile", "slurm", TABLE, *options)
    assert result.returncode == 1
    said = " ".join((result.stdout + result.stderr).split())
    where = "slurm/site.yaml, Snakemake's options and profiles: " if options else "slurm/site.yaml: "
    assert where in said
    assert told in said
    assert "Traceback" not in said
    assert accounted(started).empty
    assert not Path("results").exists()


def test_full_queue_is_told(on_cluster: Project) -> None:
    blocker = slurm("sbatch", "--parsable", "--gpus=2", "--wrap=sleep 600").strip()
    one_long_net(on_cluster)
    snakemake = Snakemake(on_cluster)
    wait_until(
        lambda: re.search(rf"SLURM: running: {blocker}, wait \(Resources\): \d+", snakemake.said()), "it is told"
    )
