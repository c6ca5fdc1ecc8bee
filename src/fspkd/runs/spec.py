"""One run: a net through one stage, all that decides its outcome, and what it needs. Imports no torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from fspkd.config.data import Augment
from fspkd.config.load import read_yaml
from fspkd.config.preset import Method
from fspkd.config.training import RateUntil, Training
from fspkd.data.sets import DataSet, PretrainedWeights
from fspkd.draws import Draws
from fspkd.errors import UserError
from fspkd.networks import AnyNetwork
from fspkd.provenance import code_sha256
from fspkd.runs.folder import RunFolder
from fspkd.settings import Settings, digest


class RunSpec(Settings):
    """All that decides a run's outcome, and nothing else; written to its folder.

    `data`, `start` and `teacher` are ids.
    """

    row: str
    replicate: int
    number: int | None
    """of the net in its row; None for a stage that all nets of the row share"""
    stage: Literal[1, 2]
    batches: Literal["own"] | None = None
    """of a first stage: `own`, or None for those shared by all nets of the row"""
    seed: int
    data: str
    augment: Augment
    network: AnyNetwork
    start: str | None
    method: Method
    teacher: str | None
    schedule: tuple[RateUntil, ...]
    training: Training

    @property
    def iterations(self) -> int:
        """The whole schedule's length."""
        return self.schedule[-1].until

    @property
    def name(self) -> str:
        """Its name among the runs of the preset, such as student-2-stage1-r3."""
        parts = [self.row]
        parts += [str(self.number)] if self.number else []
        parts += ["stage1"] if self.stage == 1 else []
        parts += [f"r{self.replicate}"] if self.replicate > 1 else []
        return "-".join(parts)

    @property
    def id(self) -> str:
        """Its name and a hash of all that decides its outcome.

        A setting that is None is not in the hash, so a new setting, with None for the former behaviour, renames
        nothing. Nor are the preset's names of the teacher and the schedule: what they stand for is.
        """
        unnamed = {"method": {"teacher", "schedule"}}
        return f"{self.name}-{digest(self.model_dump(mode='json', exclude=unnamed, exclude_none=True))}"

    @property
    def draws(self) -> Draws:
        """The run's random numbers, except those of its batches."""
        return Draws(self.seed, self.name)


@dataclass(frozen=True)
class Run:
    """One run of a plan: its specification, its folder, and what it needs."""

    spec: RunSpec
    folder: RunFolder
    data: DataSet
    start: "Run | PretrainedWeights | None"
    teacher: "Run | PretrainedWeights | None"

    @property
    def id(self) -> str:
        return self.folder.path.name

    @property
    def network(self) -> AnyNetwork:
        return self.spec.network

    @property
    def weights(self) -> Path:
        """The file of its final weights."""
        return self.folder.weights

    @property
    def phase(self) -> str:
        """One of PHASES: training with neither teacher nor first stage, a first stage, or training with either."""
        return self.folder.phase

    @property
    def stage1(self) -> "Run | None":
        """The first stage whose weights this run starts from, if any."""
        return self.start if isinstance(self.start, Run) and self.start.spec.stage == 1 else None

    @property
    def is_transfer(self) -> bool:
        """Whether it starts from weights that were trained on other data, and so with a new linear layer."""
        own = isinstance(self.start, Run) and self.start.data.undivided.id == self.data.undivided.id
        return self.start is not None and not own

    @property
    def depth(self) -> int:
        """The length of the longest chain of runs that this one waits for."""
        return max((1 + other.depth for other in (self.start, self.teacher) if isinstance(other, Run)), default=0)

    @cached_property
    def ancestry(self) -> frozenset[str]:
        """The ids of all runs that its outcome depends on, its own included."""
        others = [other.ancestry for other in (self.start, self.teacher) if isinstance(other, Run)]
        return frozenset({self.id}).union(*others)

    @property
    def architectures(self) -> frozenset[str]:
        """Of its net and its teacher."""
        return frozenset(net.network.architecture for net in (self, self.teacher) if net)

    @property
    def code_sha256(self) -> dict[str, str]:
        """Checksums of the code that decides its outcome, as this process first found it."""
        return code_sha256(*self._code)

    @property
    def _code(self) -> tuple[frozenset[str], str, str]:
        return self.architectures, self.spec.method.method, self.spec.training.optimizer.algorithm

    def check_code(self) -> None:
        """Raise UserError if the code that decides its outcome was edited since this process first took its checksums."""
        try:
            is_edited = code_sha256(*self._code) != code_sha256.__wrapped__(*self._code)
        except (SyntaxError, OSError):  # half written
            is_edited = True
        if is_edited:
            raise UserError(
                f"{self.folder}: the code that trains this run was edited while it was about to start. Start it again."
            )

    @property
    def is_of_other_code(self) -> bool:
        """Whether it is finished, and code other than the present took part in it; False if its manifest is damaged."""
        try:
            attempts = self.folder.read_manifest().attempts if self.folder.is_finished else ()
        except UserError:
            return False
        return any(attempt.code_sha256 != self.code_sha256 for attempt in attempts)

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise UserError if its net or its method cannot use images of that height and width, or crops of them."""
        crop = self.spec.augment.crop
        given = (crop, crop) if crop else size
        network, teacher = self.network, self.teacher.network if self.teacher else None
        if problem := (
            network.size_problem(given)
            or (teacher and teacher.size_problem(given))
            or self.spec.method.size_problem(network, teacher, given)
        ):
            name = self.data.settings.name
            raise UserError(f"run {self.id}: images of {name!r}, {given[1]}x{given[0]} pixels: {problem}")


def with_origins(runs: Iterable[Run]) -> list[Run]:
    """Those runs, then what they start from and learn from, and so on, each once."""
    left: list[Run | PretrainedWeights | None] = list(runs)
    found: dict[str, Run] = {}
    for run in left:  # grows meanwhile
        if isinstance(run, Run) and run.id not in found:
            found[run.id] = run
            left += [run.start, run.teacher]
    return list(found.values())


def run_in(folder: RunFolder) -> Run:
    """The run of a folder, without its data, start and teacher; raises UserError if this version cannot read it."""
    try:
        spec = RunSpec.model_validate(read_yaml(folder.specification), strict=False)
    except ValidationError as error:
        raise UserError(f"{folder.specification}: cannot be read ({error.errors()[0]['msg']}).") from None
    return Run(spec, folder, data=None, start=None, teacher=None)  # type: ignore[arg-type]  # nothing uses them


def check_finished(runs: Iterable[Run]) -> None:
    """Raise UserError for a run that is not trained yet, and if runs do not belong together.

    They do if those on one data set had the same images, and each started and learned from the weights that the
    manifests of its start and teacher name.
    """
    on: dict[Path, tuple[Run, str | None]] = {}
    for run in runs:
        if not run.folder.is_finished:
            raise UserError(f"{run.folder}: is not trained yet. Train it with: snakemake {run.folder.manifest}")
        made_from = run.folder.read_manifest().inputs_sha256
        other, images = on.setdefault(run.data.path, (run, made_from.get("data")))
        if made_from.get("data") != images:
            raise UserError(
                f"{run.folder} and {other.folder}: were trained on different images, both from {run.data.path}. Delete "
                f"that file and the folders of these runs, and run the same command again."
            )
        for source in made_anew(run):
            raise UserError(
                f"{run.folder}: was made from weights that differ from those in {source.folder} now. Delete "
                f"{run.folder.manifest} and make it again: snakemake {run.folder.manifest}"
            )


def made_anew(run: Run) -> list[Run]:
    """The finished runs whose weights are not those from which a finished run started or learnt."""
    made_from, found = run.folder.read_manifest().inputs_sha256, []
    for role, source in (("start", run.start), ("teacher", run.teacher)):
        if isinstance(source, Run) and source.folder.is_finished:
            weights = source.folder.read_manifest().weights_sha256
            found += [source] if made_from.get(role, weights) != weights else []
    return found
