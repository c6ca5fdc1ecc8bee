"""One run: a net through one stage, all that decides its outcome, and what it needs. Imports no torch."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fspkd.config.preset import Augment, Data, Method, Optimizer, Phase, Pretrained
from fspkd.errors import UserError
from fspkd.networks import Network
from fspkd.settings import Settings

PACKED = Path("data/packed")
PHASES = ("teachers", "stage1", "students")
LOCATION_VARIABLE = "FSPKD_DATA_{name}"
WEIGHTS_VARIABLE = "FSPKD_WEIGHTS_{name}"


def digest(content: object, length: int = 10) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:length]


@dataclass(frozen=True)
class DataSet:
    """A data set of the preset and the place that its images come from: `location`, or else its own source."""

    settings: Data
    location: str | None

    @property
    def id(self) -> str:
        """The name and a hash of the pinned content or, where nothing is pinned, of the place it comes from."""
        pinned = self.settings.sha256
        origin = [pinned] if pinned else [self.settings.model_dump(exclude={"augment"}), self.location]
        return f"{self.settings.name}-{digest([*origin, self.settings.size])}"

    @property
    def path(self) -> Path:
        name, hash_of_it = self.id.rsplit("-", 1)
        return PACKED / name / f"{hash_of_it}.npz"


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that were trained elsewhere, and the place that they come from: `location`, or else a download."""

    name: str
    settings: Pretrained
    network: Network
    location: str | None

    @property
    def id(self) -> str:
        return f"{self.name}-{digest([self.settings.sha256, self.network.model_dump(mode='json')])}"

    @property
    def folder(self) -> Path:
        name, hash_of_it = self.id.rsplit("-", 1)
        return PACKED / name / hash_of_it


class RunSpec(Settings):
    """All that decides a run's outcome, and nothing else: the content of run.yaml.

    `stream` names the run's random numbers under the seed, and `batches` those of its batches, which runs may share;
    `data`, `start` and `teacher` are identities.
    """

    stream: str
    batches: str
    seed: int
    data: str
    augment: Augment
    network: Network
    start: str | None
    method: Method
    teacher: str | None
    schedule: tuple[Phase, ...]
    training: Optimizer


@dataclass(frozen=True)
class Run:
    """One run of the plan: its specification, and what it needs."""

    spec: RunSpec
    folder: Path
    row: str
    replicate: int
    net: int | None  # None for a stage that all nets of the row share
    stage: int
    data: DataSet
    start: "Run | PretrainedWeights | None"
    teacher: "Run | None"

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def iterations(self) -> int:
        return self.spec.schedule[-1].until

    @property
    def phase(self) -> str:
        """One of PHASES: training that learns from no other net, a first stage, or what learns from either."""
        return self.folder.parent.name

    @property
    def stage1(self) -> "Run | None":
        """The first stage whose weights this second one starts from, if it is such a one."""
        return self.start if isinstance(self.start, Run) and self.start.stage == 1 else None

    @property
    def is_transfer(self) -> bool:
        """Whether it starts from weights that were trained on other data, and so with a linear layer of its own."""
        own = isinstance(self.start, Run) and self.start.data.id == self.data.id
        return self.start is not None and not own

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise UserError where the run's method cannot do with what it is given of images of that height and width."""
        crop = self.spec.augment.crop
        given = (crop, crop) if crop else size
        if problem := self.spec.method.size_problem(self.spec.network, given):
            raise UserError(f"run {self.id}: images of {given[1]}x{given[0]} pixels: {problem}")

    @property
    def depth(self) -> int:
        """The length of the longest chain of runs that this one waits for."""
        return max((1 + other.depth for other in (self.start, self.teacher) if isinstance(other, Run)), default=0)
