"""What jobs request of a SLURM site, and checking that before anything is submitted."""

import math
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from snakemake.common.tbdstring import TBDString

from fspkd.config.load import explain, read_yaml
from fspkd.errors import UserError
from fspkd.settings import PositiveInt, Settings, matching

SITE = Path("slurm/site.yaml")
OPTIONS = "Snakemake's options and profiles"
MOST_PARTS = 4  # of a job's time


def _split(options: str) -> str:
    try:
        shlex.split(options)
    except ValueError as error:
        raise ValueError(f"must be options in shell syntax: {error}") from None
    return options


Text = Annotated[str, Field(min_length=1)]
Extra = Annotated[Text, AfterValidator(_split)]
Gres = Annotated[
    str, *matching(r"[A-Za-z0-9_]+(:[A-Za-z0-9_.]+)?(:[0-9]+)?", "a generic resource, such as gpu:1g.10gb:1 or shard:1")
]
GpuModel = Annotated[
    str,
    *matching(r"[A-Za-z0-9_.]+", "letters, digits, _ and . (for other names, give the nodes' feature as constraint)"),
]


class Site(Settings, coerce_numbers_to_str=True):
    """What jobs request of a site besides one GPU, by the names that Snakemake's SLURM executor knows."""

    slurm_account: Text | None = None
    slurm_partition: Text | None = None
    gpu_model: GpuModel | None = None  # as in the GRES of `sinfo -o %G`
    gres: Gres | None = None  # instead of one GPU: a slice of one, a shard, or whatever a site calls it
    constraint: Text | None = None
    qos: Text | None = None
    cpus_per_task: PositiveInt | None = None
    slurm_extra: Extra | None = None  # more options of sbatch
    runtime: PositiveInt = 240  # minutes, of the last attempt
    mem_mb: PositiveInt = 8000
    checkpoint_seconds: PositiveInt = 30  # what a killed job may lose

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.gres and self.gpu_model:
            raise ValueError(
                f"gres = {self.gres!r} and gpu_model = {self.gpu_model!r}: only one of the two can be given; remove one"
            )
        return self

    def resources(self, retries: Callable[[], int]) -> dict[str, object]:
        """The resources of a rule whose jobs need a GPU. The k-th of n attempts asks for k/n of the time.

        If n is above 4, it counts as 4, and each attempt from the fourth on asks for all of the time.
        `retries` gives how many attempts follow the first, which Snakemake knows once it has read the rules.
        """

        def runtime(wildcards: object, attempt: int) -> int:
            # The snakemake inside a job makes no retries, whichever attempt the job is.
            parts = min(max(attempt, 1 + retries()), MOST_PARTS)
            return math.ceil(self.runtime * min(attempt / parts, 1))

        given = self.model_dump(exclude_none=True)
        given |= {} if self.gres else {"gpu": 1}
        return {**given, "runtime": runtime}

    def as_asked(self, resources: Mapping[str, Any]) -> Self:
        """These settings as a job's resources have them, which Snakemake's options and profiles change and add to.

        Raises UserError for values that these settings do not take.
        """
        known = {key: resources.get(key) for key in type(self).model_fields}
        given = {key: value for key, value in known.items() if value is not None and not isinstance(value, TBDString)}
        try:
            # Not strict: Snakemake reads a partition called 100 as a number.
            return type(self).model_validate({**self.model_dump(exclude_none=True), **given}, strict=False)
        except ValidationError as error:
            raise UserError(explain(error, [(Path(OPTIONS), given)], given)) from None

    def options(self) -> list[str]:
        """The options of sbatch for such a job, at its last attempt."""
        named = {
            "--account": self.slurm_account,
            "--partition": self.slurm_partition,
            "--constraint": self.constraint,
            "--qos": self.qos,
            "--gres": self.gres,
            "--gpus": None if self.gres else f"{self.gpu_model}:1" if self.gpu_model else "1",
            "--time": str(self.runtime),
            "--mem": str(self.mem_mb),
            "--cpus-per-task": str(self.cpus_per_task or 1),
        }
        given = [f"{option}={value}" for option, value in named.items() if value]
        return [*given, *shlex.split(self.slurm_extra or "")]


def load_site(path: Path = SITE) -> Site:
    """The site's settings, all defaults if there is no such file; raises UserError for what is wrong in it."""
    if not path.exists():
        return Site()
    content = read_yaml(path)
    try:
        return Site.model_validate(content)
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None


def check_site(site: Site, warn: Callable[[str], None], where: str = str(SITE)) -> None:
    """Ask SLURM whether it would take a job; raises UserError with its answer, and `where` that can be set, if it would not.

    It says the same of a GPU that does not exist and of one whose nodes are all away for now; the latter is a warning.
    """
    from snakemake_executor_plugin_slurm.validation import get_forbidden_slurm_options

    for pattern, what in get_forbidden_slurm_options().items():
        if re.search(pattern, site.slurm_extra or ""):
            raise UserError(
                f"{where}: slurm_extra = {site.slurm_extra!r}: Snakemake sets the {what} itself, and would refuse every job. "
                f"Remove that option; if it has a key of its own in {SITE}, set it there (docs/slurm.md)."
            )
    command = ["sbatch", "--test-only", *site.options(), "--wrap=true"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(
            "sbatch: no such command. Start snakemake --profile slurm on a login node of a SLURM cluster."
        ) from None
    reason = " ".join(answer.stderr.replace("sbatch: ", "").split())
    asked = f"{where}: SLURM was asked for a training job with {shlex.join(command[2:-1])}"
    if answer.returncode and "nable to contact" in reason:
        raise UserError(f"SLURM does not answer: {reason}. Try again later; sinfo shows when it is back.")
    if answer.returncode and "node configuration is not available" in reason and _has_gpu(site):
        warn(f"{asked}, and has no node for it now: {reason}. The jobs will wait.")
    elif answer.returncode:
        raise UserError(
            f"{asked}, and would reject it: {reason}. Set account, partition, GPU model and the like there; "
            f"docs/slurm.md has examples."
        )
    limits = [_minutes(limit) for limit in _sinfo("%l", site)]
    limit = None if None in limits else max(minutes for minutes in limits if minutes is not None)
    if limit is not None and site.runtime > limit:
        raise UserError(
            f"{where}: runtime = {site.runtime}: the partition allows {limit} minutes, so a job that asks for more would "
            f"wait forever. Set runtime: {limit} there; the next attempt resumes where a job was cut off."
        )
    if not _keeps_accounts():
        warn(
            "sacct: SLURM keeps no accounts here. Without the option --slurm-status-command squeue, Snakemake waits for ever "
            "for its jobs."
        )


def _keeps_accounts() -> bool:
    """Whether sacct, where there is one, knows of jobs; also True if it does not answer for now."""
    try:
        answer = subprocess.run(["sacct", "--noheader"], capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return True
    return "accounting storage is disabled" not in answer.stderr


def _sinfo(field: str, site: Site) -> list[str]:
    """A field of each line of sinfo on the site's partition, or on the default one."""
    answer = subprocess.run(["sinfo", "--noheader", f"--format=%P {field}"], capture_output=True, text=True)
    if answer.returncode:
        raise UserError(f"sinfo: {answer.stderr.strip()}. SLURM must be reachable from where jobs are submitted.")
    rows = [line.split(maxsplit=1) for line in answer.stdout.splitlines()]
    partitions = site.slurm_partition.split(",") if site.slurm_partition else [n for n, _ in rows if n.endswith("*")]
    return [value for name, value in rows if name in partitions or name.rstrip("*") in partitions] or [""]


def _has_gpu(site: Site) -> bool:
    """Whether any node of the partition, up or down, has such a GPU."""
    lines = _sinfo("%G", site)
    if site.gres:
        return any(re.sub(r":[0-9]+$", "", site.gres) in line for line in lines)
    return any(site.gpu_model in (None, model) for line in lines for model in gpu_models(line))


def gpu_models(gres: str) -> list[str]:
    """The models of GPUs in a node's resources, such as gpu:a100:4(S:0-1),gpu:2: `a100`, and '' for one without a name."""
    found = [resource.split(":") for resource in re.sub(r"\([^)]*\)", "", gres).split(",")]
    return [parts[1] if len(parts) > 2 else "" for parts in found if parts[0] == "gpu"]


def _minutes(limit: str) -> int | None:
    """The minutes in a time as sinfo writes it, [days-][hours:]minutes:seconds; None if there is no limit."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts):
        return None
    hours, minutes, _ = [0, 0, 0, *map(int, parts)][-3:]
    return 1440 * int(days or 0) + 60 * hours + minutes
