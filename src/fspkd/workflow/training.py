"""What the rules that train ask of a plan, and what they need of Snakemake."""

import os
import re
import subprocess
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snakemake.io import ancient
from snakemake.iocontainers import Wildcards

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.result import wanted_by_results
from fspkd.runs.folder import PHASES
from fspkd.runs.spec import Run
from fspkd.workflow.names import one_of

KNOWN_GPUS = Path("/proc/driver/nvidia/gpus")
Files = dict[str, list[str]]


def members_of(config: dict) -> int:
    """How many nets a training job trains side by side, as --config says; raises UserError for invalid values and keys."""
    members = config.get("members", 1)
    if not isinstance(members, int) or members < 1:
        raise UserError(f"--config members={members}: must be a whole number, 1 or more: how many nets a job trains.")
    if unknown := sorted(config.keys() - {"members"}):
        raise UserError(
            f"--config {unknown[0]}: unknown key; the only one is members. Settings belong in a preset in config/."
        )
    return members


@dataclass(frozen=True)
class TrainingRule:
    """A rule that trains: the runs of a phase, each by a job of its own, or one group of runs, side by side.

    `jobs` holds those runs, and the plan that they are trained for, by the first run's id, which the wildcard {run} takes.
    """

    name: str
    jobs: dict[str, tuple[Plan, tuple[Run, ...]]]
    is_group: bool

    def _job(self, wildcards: Wildcards) -> tuple[Plan, tuple[Run, ...]]:
        return self.jobs[wildcards.get("run", next(iter(self.jobs)))]

    @property
    def runs(self) -> str:
        """A pattern for the runs."""
        return one_of(self.jobs)

    @property
    def first(self) -> str:
        """What logs are named after."""
        return next(iter(self.jobs)) if self.is_group else "{run}"

    @property
    def outputs(self) -> list[str]:
        """The files of the group, else a pattern for those of any run of the phase."""
        _, runs = next(iter(self.jobs.values()))
        files = [file for run in runs for file in run_outputs(run)]
        return files if self.is_group else [file.replace(runs[0].id, "{run}") for file in files]

    def inputs(self, wildcards: Wildcards) -> Files:
        """The packed data, and the weights that runs start from and learn from."""
        _, runs = self._job(wildcards)
        data = runs[0].data
        needed = [other for run in runs for other in (run.start, run.teacher) if other]
        return {
            # Pinned content is part of a run's name; other images may have been packed anew from the same place.
            "data": [ancient(str(data.path)) if data.settings.sha256 else str(data.path)],
            "weights": list(dict.fromkeys(str(other.weights) for other in needed)),
        }

    # Snakemake does not compare params that depend on outputs, so grouping nets differently retrains none.

    def arguments(self, wildcards: Wildcards, output: Iterable[str]) -> list[str]:
        """The arguments of scripts/train.py."""
        plan, _ = self._job(wildcards)
        return [plan.preset.results, *dict.fromkeys(Path(file).parent.name for file in output)]

    def message(self, wildcards: Wildcards, output: Iterable[str]) -> str:
        """What Snakemake prints when it trains."""
        _, runs = self._job(wildcards)
        lengths = {
            run: f"{'at most ' if run.spec.training.stop else ''}{run.spec.iterations} iterations" for run in runs
        }
        return "\n".join(f"train {run.folder}: {lengths[run]} of {run.spec.method.method}" for run in runs)


def training_rules(plans: Iterable[Plan], members: int) -> list[TrainingRule]:
    """The rules that train: one for each phase or, if a job trains several runs side by side, one for each job.

    The folders of a job's runs have nothing in common, so no pattern of a rule fits several such jobs. A run that several
    presets share is trained for the first of them, or the first of those that refuse to have it computed in float32.
    """
    taken: set[str] = set()
    jobs: dict[str, tuple[Plan, tuple[Run, ...]]] = {}
    plans = sorted(plans, key=lambda plan: plan.preset.without_bfloat16 is None)
    asking: dict[str, list[str]] = {}  # the presets whose results want a run
    for plan in plans:
        for run in wanted_by_results(plan):
            asking.setdefault(run.id, []).append(plan.preset.name)
    wanted = {run: tuple(names) for run, names in asking.items()}
    for plan in plans:
        jobs |= {runs[0].id: (plan, runs) for runs in plan.jobs(members, without=taken, wanted=wanted)}
        taken |= plan.runs.keys()
    if members > 1:
        return [TrainingRule(f"train_{first.replace('-', '_')}", {first: job}, True) for first, job in jobs.items()]
    of_phases = {phase: {run: job for run, job in jobs.items() if job[1][0].phase == phase} for phase in PHASES}
    return [TrainingRule(f"train_{phase}", of_phase, False) for phase, of_phase in of_phases.items() if of_phase]


def share_gpus(workflow: Any) -> None:
    """Give jobs that Snakemake runs here a GPU each, unless the user says what they share."""
    if workflow.executor_plugin.name == "local" and "gpu" not in workflow.global_resources and (gpus := gpus_here()):
        workflow.register_resource("gpu", gpus)


def gpus_here() -> int:
    """How many GPUs local jobs may use: those of CUDA_VISIBLE_DEVICES, or all that the driver knows.

    Slices of GPUs (MIG) count as one, since a process sees the first of them only.
    """
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        named = [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
        slices = [gpu for gpu in named if gpu.startswith("MIG")]
        return len(named) - max(0, len(slices) - 1)
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):  # containers may have the driver but not the command
        return len(list(KNOWN_GPUS.glob("*")))
    return len(re.findall(r"^GPU \d", listed, re.MULTILINE))


def mend_failures() -> None:
    """Keep Snakemake, version 9, from putting old files back after a job that failed, and from recording it as done.

    Of outputs that a rule updates it restores what was there before, also over those of nets that the job has finished, and
    a manifest that was removed because it no longer holds; then it records that they were made from the inputs that are
    there now. With this, nothing is recorded, so the files' times decide what runs next.
    """
    from snakemake.jobs import Job
    from snakemake.persistence import PersistenceBase

    has_failed = ContextVar("has_failed", default=False)
    postprocess, finished = Job.postprocess, PersistenceBase.finished

    async def postprocess_knowing(job: Any, *given: Any, error: bool = False, **options: Any) -> None:
        token = has_failed.set(error)
        try:
            await postprocess(job, *given, error=error, **options)
        finally:
            has_failed.reset(token)

    async def record_if_done(self: Any, job: Any) -> None:
        if has_failed.get():
            self.cleanup(job)
        else:
            await finished(self, job)

    Job.postprocess, PersistenceBase.finished = postprocess_knowing, record_if_done
    PersistenceBase.backup_output = lambda self, path: None
    PersistenceBase.restore_output = lambda self, path: False


def run_outputs(run: Run) -> list[str]:
    """The files of a run that others read."""
    return [str(file) for file in (*run.folder.outputs(run.spec.stage), run.folder.manifest)]
