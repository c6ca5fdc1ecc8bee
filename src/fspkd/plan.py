"""From a preset to the runs that make it: every rule, path, tracked run and table cell comes from here.

A run trains one net through one stage. Its identity is the hash of all that decides its outcome, the runs that it
starts from and learns from included; the hash is part of its folder's name. So a changed setting leads to new
folders, an unchanged run is never trained again, and the same net in two tables is one run. Imports no torch.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from fspkd.config import Augment, Data, Method, Network, Optimizer, Phase, Preset, Settings
from fspkd.errors import UserError
from fspkd.presets import load_preset

CONFIG = Path("config")
PHASES = ("teachers", "stage1", "students")
LOCATION_VARIABLE = "FSPKD_DATA_{name}"


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
        return Path("data") / name / f"{hash_of_it}.npz"


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
    net: int | None  # None for a stage that all nets of the row share
    stage: int
    data: DataSet
    start: "Run | None"
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
    def results(self) -> Path:
        """The folder of results of its preset."""
        return self.folder.parents[2]

    @property
    def depth(self) -> int:
        """The length of the longest chain of runs that this one waits for."""
        return max((1 + other.depth for other in (self.start, self.teacher) if other), default=0)


class Plan:
    """The runs of a preset. `rows` holds, for each row, the run of each of its nets.

    Raises UserError where rows depend on each other in a circle, or where teacher and student do not fit.
    """

    def __init__(self, preset: Preset, environment: dict[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.preset = preset
        self.runs: dict[str, Run] = {}
        self.data = {
            key: DataSet(data, environment.get(LOCATION_VARIABLE.format(name=data.name.upper())) or None)
            for key, data in preset.data.items()
        }
        self._open: list[str] = []
        self.rows: dict[str, list[Run]] = {}
        for name in preset.rows:
            self._row(name)

    def net(self, reference: str) -> Run:
        """The last run of a net named as row/number."""
        row, number = reference.split("/")
        return self._row(row)[int(number) - 1]

    def row_runs(self, name: str) -> list[Run]:
        """All runs that are counted to a row: its stage-1 runs and its nets, each once."""
        nets = self._row(name)
        first = [run.start for run in nets if run.start and run.start.row == name]
        return list(dict.fromkeys([*first, *nets]))

    def jobs(self, members: int) -> list[tuple[Run, ...]]:
        """All runs, in groups of up to `members` that one process trains side by side.

        A group's runs are on one data set and equally deep in the graph of runs, so none waits for another.
        """
        layers: dict[tuple[DataSet, int], list[Run]] = {}
        for run in self.runs.values():
            layers.setdefault((run.data, run.depth), []).append(run)
        return [
            tuple(layer[first : first + members])
            for layer in layers.values()
            for first in range(0, len(layer), members)
        ]

    def phase(self, name: str) -> list[Run]:
        """The runs of a phase."""
        return [run for run in self.runs.values() if run.phase == name]

    def reference(self, name: str) -> Path:
        """The file with the published numbers of a table or a time comparison."""
        return CONFIG / (self.preset.tables | self.preset.timings)[name].reference

    def run(self, run_id: str) -> Run:
        """The run of that id; raises UserError where the preset has none."""
        if run_id not in self.runs:
            raise UserError(
                f"run {run_id!r}: preset {self.preset.name!r} has no such run. A run's name ends in a hash of its settings, "
                f"so it changes with them; the runs are: {', '.join(self.runs)}."
            )
        return self.runs[run_id]

    def _row(self, name: str) -> list[Run]:
        if name in self.rows:
            return self.rows[name]
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise UserError(f"preset {self.preset.name!r}: rows depend on each other in a circle: {circle}.")
        self._open.append(name)
        row = self.preset.rows[name]
        start = None if row.start == "scratch" else self.net(row.start)
        nets = []
        for number in range(1, row.nets + 1):
            before = start
            if row.stage1_of:
                before = self._row(row.stage1_of)[0].start
            elif row.stage1:
                before = self._make(name, None if row.stage1_shared else number, 1, row.stage1, start)
            nets.append(self._make(name, number, 2, row.stage2, before))
        self._open.pop()
        self.rows[name] = nets
        return nets

    def _make(self, row_name: str, number: int | None, stage: int, method: Method, start: Run | None) -> Run:
        preset, row = self.preset, self.preset.rows[row_name]
        teacher = self.net(method.teacher) if getattr(method, "teacher", None) else None
        stream = "-".join([row_name, *([str(number)] if number else []), *(["stage1"] if stage == 1 else [])])
        data = self.data[row.data]
        self._check_fit(stream, data, method, row.network, start, teacher)
        spec = RunSpec(
            stream=stream,
            batches=f"{row_name}-stage1" if stage == 1 else stream,
            seed=preset.seed,
            data=data.id,
            augment=data.settings.augment,
            network=preset.networks[row.network],
            start=start.id if start else None,
            method=method,
            teacher=teacher.id if teacher else None,
            schedule=tuple(
                Phase(until=phase.until // preset.divide_schedules, rate=phase.rate)
                for phase in preset.schedules[method.schedule]
            ),
            training=preset.training,
        )
        # The names of the teacher and the schedule are the preset's; what they stand for is in the other keys.
        identity = spec.model_dump(mode="json", exclude={"method": {"teacher", "schedule"}})
        phase = "stage1" if stage == 1 else "students" if teacher or (start and start.stage == 1) else "teachers"
        folder = Path(preset.results) / "runs" / phase / f"{stream}-{digest(identity)}"
        run = Run(spec, folder, row_name, number, stage, data, start, teacher)
        return self.runs.setdefault(run.id, run)

    def _check_fit(
        self, stream: str, data: DataSet, method: Method, network: str, start: Run | None, teacher: Run | None
    ) -> None:
        own = self.preset.networks[network]
        if start and start.spec.network != own:
            raise UserError(
                f"preset {self.preset.name!r}: {stream} starts from {start.row}, another network: "
                f"{start.spec.network} and {own}. Weights are copied between equal networks only."
            )
        for other in (start, teacher):
            if other and other.data != data:
                raise UserError(
                    f"preset {self.preset.name!r}: {stream} is trained on {data.settings.name!r} and needs "
                    f"{other.spec.stream}, which is trained on {other.data.settings.name!r}. Give both rows the same data."
                )
        if method.method == "fsp" and teacher.spec.network.width != own.width:
            raise UserError(
                f"preset {self.preset.name!r}: {stream} learns FSP matrices of width {teacher.spec.network.width} with a net "
                f"of width {own.width}: the matrices differ in shape. Give both networks the same width."
            )
        if method.method == "fsp" and method.layers == "module" and min(own.depth, teacher.spec.network.depth) == 8:
            raise UserError(
                f"preset {self.preset.name!r}: {stream}: layers = 'module' needs sections of two modules or more, and an "
                f"8-layer net has one. Use layers: section."
            )


def load_plans(folder: Path = CONFIG) -> dict[str, Plan]:
    """The plans of all presets in a folder, by the folder of results that each writes.

    Raises UserError for a preset that is not valid, and for two that write to the same place.
    """
    plans: dict[str, Plan] = {}
    for path in sorted(folder.glob("*.yaml")):
        plan = Plan(load_preset(path))
        if plan.preset.results in plans:
            other = plans[plan.preset.results].preset.name
            raise UserError(
                f"{path}: results = {plan.preset.results!r}: preset {other!r} writes there already. Name another folder."
            )
        plans[plan.preset.results] = plan
    if not plans:
        raise UserError(f"{folder}: no presets here. Run this from the top folder of the repository.")
    return plans


def plan_for(results: Path) -> Plan:
    """The plan of the preset that writes to a folder of results; raises UserError where none does."""
    plans = load_plans()
    if str(results) not in plans:
        raise UserError(f"{results}: no preset in {CONFIG}/ writes there; their folders are: {', '.join(plans)}.")
    return plans[str(results)]
