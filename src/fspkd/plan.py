"""From a preset to the runs that make it: every rule, path, tracked run and table cell comes from here.

A run trains one net through one stage. Its identity is the hash of all that decides its outcome, the runs that it
starts from and learns from included; the hash is part of its folder's name. So a changed setting leads to new
folders, an unchanged run is never trained again, and the same net in two tables is one run. Imports no torch.
"""

import os
from collections.abc import Callable
from pathlib import Path

from fspkd.config.claims import Claim, load_claims
from fspkd.config.load import load_preset
from fspkd.config.preset import Method, Phase, Preset
from fspkd.errors import UserError
from fspkd.runs.spec import LOCATION_VARIABLE, WEIGHTS_VARIABLE, DataSet, PretrainedWeights, Run, RunSpec, digest
from fspkd.settings import suggest

CONFIG = Path("config")
CLAIMS = "claims.yaml"


class Plan:
    """The runs of a preset. `replicates` holds, for each replicate, the last run of each net of each row.

    Raises UserError where rows depend on each other in a circle, or where teacher and student do not fit.
    """

    def __init__(self, preset: Preset, environment: dict[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.preset = preset
        self.claims: tuple[Claim, ...] = load_claims(CONFIG / CLAIMS, preset) if preset.claims else ()
        self.runs: dict[str, Run] = {}
        self.data = {
            key: DataSet(data, environment.get(LOCATION_VARIABLE.format(name=data.name.upper())) or None)
            for key, data in preset.data.items()
        }
        self.pretrained = {
            name: PretrainedWeights(
                name,
                pretrained,
                preset.networks[pretrained.network],
                environment.get(WEIGHTS_VARIABLE.format(name=name.upper())) or None,
            )
            for name, pretrained in preset.pretrained.items()
            if any(row.start == name for row in preset.rows.values())
        }
        self._open: list[str] = []
        self.replicates: list[dict[str, list[Run]]] = [{} for _ in range(preset.replicates)]
        for replicate in range(1, preset.replicates + 1):
            for name in preset.rows:
                self._row(name, replicate)

    @property
    def rows(self) -> dict[str, list[Run]]:
        """The nets of each row, in the first replicate."""
        return self.replicates[0]

    def nets(self, reference: str, replicate: int | None = None) -> list[Run]:
        """The nets of a row, or the one that row/number names, in one replicate or in all."""
        row, _, number = reference.partition("/")
        replicates = self.replicates if replicate is None else [self.replicates[replicate - 1]]
        return [net for rows in replicates for net in rows[row] if number in ("", str(net.net))]

    def net(self, reference: str, replicate: int = 1) -> Run:
        """The last run of a net named as row/number."""
        row, number = reference.split("/")
        return self._row(row, replicate)[int(number) - 1]

    def row_runs(self, reference: str, replicate: int | None = None) -> list[Run]:
        """All runs that are counted to nets, in one replicate or in all: their stage-1 runs and they themselves, each once."""
        nets = self.nets(reference, replicate)
        first = [run.stage1 for run in nets if run.stage1 and run.stage1.row == run.row]
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

    def reference(self, name: str) -> Path | None:
        """The file with the published numbers of a table or a time comparison, if there are."""
        reference = (self.preset.tables | self.preset.timings)[name].reference
        return CONFIG / reference if reference else None

    def run(self, run_id: str) -> Run:
        """The run of that id; raises UserError where the preset has none."""
        if run_id not in self.runs:
            raise UserError(
                f"run {run_id!r}: preset {self.preset.name!r} has no such run. A run's name ends in a hash of its settings, "
                f"so it changes with them; the runs are: {', '.join(self.runs)}."
            )
        return self.runs[run_id]

    def _row(self, name: str, replicate: int) -> list[Run]:
        rows = self.replicates[replicate - 1]
        if name in rows:
            return rows[name]
        if name in self._open:
            circle = " -> ".join([*self._open[self._open.index(name) :], name])
            raise UserError(f"preset {self.preset.name!r}: rows depend on each other in a circle: {circle}.")
        self._open.append(name)
        row = self.preset.rows[name]
        start = self.net(row.start, replicate) if "/" in row.start else self.pretrained.get(row.start)
        nets = []
        for number in range(1, row.nets + 1):
            before = start
            if row.stage1_of:
                before = self._row(row.stage1_of, replicate)[0].start
            elif row.stage1:
                shared = None if row.stage1_shared else number
                before = self._make(name, replicate, shared, 1, row.stage1, start)
            nets.append(self._make(name, replicate, number, 2, row.stage2, before))
        self._open.pop()
        rows[name] = nets
        return nets

    def _make(
        self,
        row_name: str,
        replicate: int,
        number: int | None,
        stage: int,
        method: Method,
        start: Run | PretrainedWeights | None,
    ) -> Run:
        preset, row = self.preset, self.preset.rows[row_name]
        teacher = self.net(method.teacher, replicate) if getattr(method, "teacher", None) else None
        again = [f"r{replicate}"] if replicate > 1 else []
        stream = "-".join([row_name, *([str(number)] if number else []), *(["stage1"] if stage == 1 else []), *again])
        data = self.data[row.data]
        self._check_fit(stream, data, method, row.network, start, teacher)
        spec = RunSpec(
            stream=stream,
            batches="-".join([row_name, "stage1", *again]) if stage == 1 else stream,
            seed=preset.seed,
            data=data.id,
            augment=data.settings.augment,
            network=preset.networks[row.network],
            start=start.id if start else None,
            method=method,
            teacher=teacher.id if teacher else None,
            schedule=tuple(
                Phase(until=phase.until // preset.divide_schedules.get(row.data, 1), rate=phase.rate)
                for phase in preset.schedules[method.schedule]
            ),
            training=preset.training,
        )
        # The names of the teacher and the schedule are the preset's; what they stand for is in the other keys.
        identity = spec.model_dump(mode="json", exclude={"method": {"teacher", "schedule"}})
        after_stage1 = isinstance(start, Run) and start.stage == 1
        phase = "stage1" if stage == 1 else "students" if teacher or after_stage1 else "teachers"
        folder = Path(preset.results) / "runs" / phase / f"{stream}-{digest(identity)}"
        run = Run(spec, folder, row_name, replicate, number, stage, data, start, teacher)
        return self.runs.setdefault(run.id, run)

    def _check_fit(
        self,
        stream: str,
        data: DataSet,
        method: Method,
        network: str,
        start: Run | PretrainedWeights | None,
        teacher: Run | None,
    ) -> None:
        own = self.preset.networks[network]
        where = f"preset {self.preset.name!r}: {stream}"
        start_network = start.spec.network if isinstance(start, Run) else start.network if start else own
        if start_network != own:
            raise UserError(
                f"{where} starts from {start.id}, another network: {start_network!r} and {own!r}. Weights are copied between "
                f"equal networks only."
            )
        if teacher and teacher.data.id != data.id:
            raise UserError(
                f"{where} is trained on {data.settings.name!r} and learns from {teacher.spec.stream}, which is trained on "
                f"{teacher.data.settings.name!r}. Give both rows the same data."
            )
        if problem := method.problem(own, teacher.spec.network if teacher else None):
            raise UserError(f"{where}: {problem}")


def load_plans(folder: Path = CONFIG, invalid: Callable[[UserError], object] | None = None) -> dict[str, Plan]:
    """The plans of all presets in a folder, by the folder of results that each writes.

    Raises UserError for two that write to the same place, and for a preset that is not valid, unless `invalid` takes it.
    """
    paths = sorted(path for path in folder.glob("*.yaml") if path.name != CLAIMS)
    if not paths:
        raise UserError(f"{folder}: no presets here. Run this from the top folder of the repository.")
    plans: dict[str, Plan] = {}
    for path in paths:
        try:
            plan = Plan(load_preset(path))
        except UserError as error:
            if invalid is None:
                raise
            invalid(error)
            continue
        if plan.preset.results in plans:
            other = plans[plan.preset.results].preset.name
            raise UserError(
                f"{path}: results = {plan.preset.results!r}: preset {other!r} writes there already. Name another folder."
            )
        plans[plan.preset.results] = plan
    return plans


def plan_for(results: Path) -> Plan:
    """The plan of the preset that writes to a folder of results; raises UserError where none does.

    Others may be invalid: somebody writes at a preset while another trains.
    """
    problems: list[UserError] = []
    plans = load_plans(invalid=problems.append)
    if str(results) not in plans:
        if problems:
            raise problems[0]
        raise UserError(f"{results}: no preset in {CONFIG}/ writes there; their folders are: {', '.join(plans)}.")
    return plans[str(results)]


def result_of(plan: Plan, kind: str, path: Path) -> str:
    """The name of the table, figure or timing that a path is for; raises UserError where the preset has no such."""
    names = getattr(plan.preset, kind)
    if path.stem not in names:
        raise UserError(f"{path}: {path.stem!r}: no such entry in {kind}{suggest(path.stem, names)}")
    return path.stem
