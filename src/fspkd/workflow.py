"""What the rules of the workflow ask of a plan: inputs, outputs, names. Imports no torch."""

import os
import re
import subprocess
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

from snakemake.io import ancient
from snakemake.iocontainers import Wildcards

from fspkd.config.load import CONFIG, read_yaml
from fspkd.config.results import Curves, Depth, Figure, InferenceTime, Matrices, Plateau, Table
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.provenance import DECIDING, PACKAGE, with_imports
from fspkd.result import Result, read_by_results, wanted_by_results
from fspkd.runs.folder import PHASES
from fspkd.runs.spec import Run, with_origins

DVC = Path("params.yaml")
KNOWN_GPUS = Path("/proc/driver/nvidia/gpus")
Files = dict[str, list[str]]
# The keys of a preset that decide what is shown of its nets.
SHOWN = {"about", "demonstration", "tables", "figures", "timings", "claims"}
APART = ("timing", "summary")  # a time is not measured again, and the summary shows what other rules made
# The suffixes of a figure's files of numbers, by kind.
FIGURES = {get_args(of.model_fields["kind"].annotation)[0]: of.ends for of in get_args(get_args(Figure)[0])}


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


def one_of(texts: Iterable[str]) -> str:
    """A pattern that matches any of some texts, and nothing if there are none."""
    return "|".join(map(re.escape, sorted(set(texts)))) or "(?!)"


def names_in(plans: dict[str, Plan], section: str, kind: str | None = None, below: tuple[str, ...] = ("",)) -> str:
    """A pattern for the names of all tables, figures or timings, each right after the folder of results that it is in.

    What is a table of one preset may be a timing of another. With `kind`, only those of that kind. With `below`, right
    after one of these folders of the results, such as "metrics/".
    """
    names = (
        (folder, name)
        for folder, plan in plans.items()
        for name, entry in getattr(plan.preset, section).items()
        if kind is None or entry.kind == kind
    )
    patterns = (f"(?<={re.escape(f'{folder}/{b}')}){re.escape(name)}" for folder, name in sorted(names) for b in below)
    return "|".join(patterns) or "(?!)"


def names_of_pictures(plans: dict[str, Plan]) -> str:
    """A pattern for the names of all tables and, where a preset has claims, for `claims`, each right after its folder."""
    claims = (f"(?<={re.escape(f'{folder}/')})claims" for folder, plan in plans.items() if plan.claims)
    return "|".join([*claims, names_in(plans, "tables")])


@cache
def code(*modules: str, folders: tuple[str, ...] = ("report", "runs", "times")) -> list[str]:
    """The files of those modules, such as report/tables, and of all that they import from these folders, directly or not."""
    return list(map(str, with_imports((PACKAGE / f"{module}.py" for module in modules), folders)))


def templates(*names: str) -> list[str]:
    """The files of page templates, which no import names."""
    return [str(PACKAGE / "report" / f"{name}.html.j2") for name in names]


# --- training ---------------------------------------------------------------------------------------------


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


def dvc_plan(plans: dict[str, Plan]) -> Plan | None:
    """The plan of the preset that params.yaml names, if there is such a file and such a preset."""
    return plans.get(str(read_yaml(DVC).get("results"))) if DVC.exists() else None


def run_outputs(run: Run) -> list[str]:
    """The files of a run that others read."""
    return [str(file) for file in (*run.folder.outputs(run.spec.stage), run.folder.manifest)]


def phase_outputs(plan: Plan, phase: str) -> list[str]:
    """The files of all runs of a phase that results wait for."""
    return [file for run in wanted_by_results(plan) if run.phase == phase for file in run_outputs(run)]


def packed_files(plan: Plan) -> list[str]:
    """The packed data sets and pretrained weights that the results of a preset wait for."""
    return [ancient(str(read.path)) for read in read_by_results(plan)]


# --- results ----------------------------------------------------------------------------------------------


def _for_a_page(text: str) -> str:
    """A rule's parameter, escaped: Snakemake's report puts it as it is into a script of its page, which a text could end."""
    return text.replace("<", r"\u003c")


class ResultRule(Result):
    """What the rule of a result needs."""

    def decided_by(self) -> list[str]:
        """The settings and the runs that decide it: if they change, it is made again."""
        if self.name:
            settings = self.settings.model_dump_json(exclude_none=True)
        else:
            settings = self.plan.preset.model_dump_json(include=SHOWN, exclude_none=True)
        return [_for_a_page(settings), *(run.id for run in self.runs)]

    def gone(self) -> list[str]:
        """If it exists: all outputs of those runs that it shows of which some are missing."""
        if self.kind in APART or not Path(self.file).exists():
            return []
        files = (run_outputs(run) for run in self.runs)
        return [file for of_run in files if not all(map(os.path.exists, of_run)) for file in of_run]

    def inputs(self) -> Files:
        """The files that it is made from."""
        return {
            "table": self._table,
            "figure": self._figure,
            "timing": self._timing,
            "claims": self._claims,
            "summary": self._summary,
        }[self.kind]()

    def _table(self) -> Files:
        reference = self.settings.reference
        return {
            "code": [*code("report/tables"), *templates("page", "table")],
            "predictions": [str(net.folder.predictions) for net in self.nets],
            "manifests": [str(run.folder.manifest) for run in with_origins(self.runs)],  # which its notes are about
            "reference": [str(CONFIG / reference)] if reference else [],
        }

    def _figure(self) -> Files:
        shared = {"code": self._figures_code(), "manifests": [str(run.folder.manifest) for run in self.runs]}
        if isinstance(self.settings, Curves | Plateau):
            return {**shared, "metrics": [str(net.folder.metrics) for net in self.nets]}
        if isinstance(self.settings, Matrices):
            (first,) = self.nets
            weights = [run.weights for run in (first.start, first.teacher, first) if run]
            return {**shared, "data": [ancient(str(first.data.path))], "weights": list(map(str, weights))}
        return {
            **shared,
            "predictions": [str(net.folder.predictions) for net in self.nets],
            "reference": [str(CONFIG / self.settings.reference)] if self.settings.reference else [],
        }

    def _figures_code(self) -> list[str]:
        """The code of its kind, and of its nets' methods or networks if it computes with them, which are found by name."""
        own, named = ("report/figures", f"report/{self.settings.kind}"), set()
        if isinstance(self.settings, Plateau):
            named = {f"distill/{net.spec.method.method}" for net in self.nets}
        if isinstance(self.settings, Depth | Matrices):
            named = {f"models/{name}" for net in self.nets for name in net.architectures}
        return sorted({*code(*own), *code(*own, *sorted(named), folders=("report", "train", *DECIDING))})

    def _timing(self) -> Files:
        """Without code, since a time is not measured again for a changed word."""
        reference = self.settings.reference
        shared = {
            "data": [ancient(str(self.nets[0].data.path))],
            "reference": [str(CONFIG / reference)] if reference else [],
        }
        if isinstance(self.settings, InferenceTime):
            return {**shared, "nets": [file for net in self.nets for file in run_outputs(net)]}
        firsts = [net.stage1 for net in self.nets]
        return {
            **shared,
            "teachers": sorted({str(first.teacher.weights) for first in firsts if first and first.teacher}),
        }

    def _claims(self) -> Files:
        preset = self.plan.preset
        curves = [name for name, figure in preset.figures.items() if isinstance(figure, Curves)]
        points = [figure for figure in preset.figures.values() if isinstance(figure, Depth)]
        measured = [f"{name}_flat.csv" for name in curves] + [f"{name}.csv" for name in preset.timings]
        published: list[Table | Depth] = [*preset.tables.values(), *points]
        references = {str(CONFIG / shown.reference) for shown in published if shown.reference}
        return {
            "code": [*code("report/claims"), *templates("page", "table")],
            "claims": [str(CONFIG / preset.claims)] if preset.claims else [],
            "references": sorted(references),
            "manifests": [str(run.folder.manifest) for run in self.runs],
            "predictions": [str(net.folder.predictions) for net in self.nets],
            "measured": [f"{preset.results}/{name}" for name in measured],
        }

    def picture_inputs(self) -> Files:
        """What the picture of a table, or of the claims, is made from."""
        return {"code": code("report/pictures"), "csv": [self.file]}

    @property
    def picture_title(self) -> str:
        """What decides that picture, besides its inputs."""
        if self.name:
            return _for_a_page(self.settings.title)
        return "claims of a demonstration" if self.plan.preset.demonstration else "claims"

    def _summary(self) -> Files:
        preset = self.plan.preset
        names = [f"{table}{end}" for table in preset.tables for end in (".csv", ".svg")]
        names += [f"{figure}.svg" for figure in preset.figures]
        names += [f"{timing}.csv" for timing in preset.timings]
        names += ["claims.csv", "claims.svg"] if self.plan.claims else []
        kinds = sorted({f"report/{e.kind}" for e in (*preset.figures.values(), *preset.timings.values())})
        return {
            "code": [*code("report/summary", *kinds), *templates("page", "summary")],
            "manifests": [str(run.folder.manifest) for run in wanted_by_results(self.plan)],
            "results": [f"{preset.results}/{name}" for name in names],
        }


@dataclass
class ResultRules:
    """What the rules of results need, by their wildcards; `plans` are by folder of results.

    `of_other_code` collects the ids of runs of other code: those that inputs were asked for, and those that they rest on.
    """

    plans: dict[str, Plan]
    workflow: Any
    of_other_code: set[str] = field(default_factory=set)

    def _of(self, kind: str, wildcards: Wildcards) -> ResultRule:
        return ResultRule(self.plans[wildcards.results], kind, wildcards.get(kind))

    def _pictured(self, wildcards: Wildcards) -> ResultRule:
        plan, name = self.plans[wildcards.results], wildcards.picture
        return ResultRule(plan, "claims") if name == "claims" else ResultRule(plan, "table", name)

    def inputs(self, kind: str) -> Callable[[Wildcards], Files]:
        """The function that gives the inputs of a result of that kind.

        Nets that it shows and that are gone are trained again, though Snakemake by itself does not make a missing file again
        if what is made from it is up to date.
        """

        def inputs(wildcards: Wildcards) -> Files:
            result = self._of(kind, wildcards)
            self.workflow.dag.forcefiles.update(result.gone())
            self.of_other_code.update(run.id for run in with_origins(result.nets) if run.is_of_other_code)
            return result.inputs()

        return inputs

    def decided_by(self, kind: str) -> Callable[[Wildcards], list[str]]:
        """The function that gives the settings and runs that decide a result of that kind."""
        return lambda wildcards: self._of(kind, wildcards).decided_by()

    def picture_inputs(self, wildcards: Wildcards) -> Files:
        """What the picture of a table, or of the claims, is made from."""
        return self._pictured(wildcards).picture_inputs()

    def picture_title(self, wildcards: Wildcards) -> str:
        """What decides that picture, besides its inputs."""
        return self._pictured(wildcards).picture_title
