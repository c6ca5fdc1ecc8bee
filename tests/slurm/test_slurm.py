"""The workflow on a real SLURM: one node, accounting, two pretended GPUs, started and stopped here."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from conftest import REPOSITORY, Project

from fspkd.tables import read_manifest

CLUSTER = Path(__file__).with_name("cluster.sh")

pytestmark = pytest.mark.skipif(
    shutil.which("slurmctld") is None or os.geteuid() != 0, reason="needs SLURM's daemons, and root to run them"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    folder = Path(tempfile.mkdtemp(prefix="fspkd-slurm-"))
    folder.chmod(0o755)  # MariaDB runs as another user
    environment = {**os.environ, "SLURM_TEST_FOLDER": str(folder)}
    started = subprocess.run([CLUSTER, "start"], env=environment, capture_output=True, text=True)
    if started.returncode:
        subprocess.run([CLUSTER, "stop"], env=environment)
        pytest.skip(f"SLURM does not start on this machine: {started.stdout}{started.stderr}")
    yield
    subprocess.run([CLUSTER, "stop"], env=environment, check=True)
    shutil.rmtree(folder)


def accounted() -> pd.DataFrame:
    """The jobs of the cluster: their state, resources and times."""
    command = ["sacct", "--allocations", "--parsable2", "--format=JobID,State,AllocTRES,Start,End"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return pd.DataFrame([line.split("|") for line in lines[1:]], columns=lines[0].split("|"))


def test_table_is_made_on_gpu_nodes_with_the_bits_of_a_local_run(cluster: None, workflow: Project) -> None:
    (workflow.folder / "slurm").symlink_to("profiles/slurm")
    table = "results/tiny/table1.csv"
    result = workflow.run("snakemake", "--profile", "slurm", table)
    assert result.returncode == 0, result.stdout + result.stderr
    jobs = accounted()
    assert list(jobs["State"]) == ["COMPLETED"] * 3  # teachers, stage 1, stage 2; the rest ran where snakemake did
    assert jobs["AllocTRES"].str.contains("gres/gpu=1").all()
    on_cluster, content = workflow.checksums(), Path(table).read_bytes()
    manifest = read_manifest(workflow.plan().net("teacher/1"))
    assert manifest["attempts"][0]["job_id"] in set(jobs["JobID"])
    shutil.rmtree("results")
    assert workflow.run("snakemake", table).returncode == 0
    assert workflow.checksums() == on_cluster
    assert Path(table).read_bytes() == content
    assert (REPOSITORY / "slurm" / "config.yaml").exists()
