"""From a preset to the runs that make it: every rule, path, tracked run and table cell comes from here.

A run trains one net through one stage. Its identity is the hash of all that decides its outcome, including the
runs that it starts from and learns from; the hash is part of its folder's name. So a changed setting leads to new
folders, an unchanged run is never trained again, and the same net in two tables, or in two presets, is one run. Imports no
torch.
"""

import graphlib
import os
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from fspkd.config.claims import load_claims
from fspkd.config.preset import Method, Preset, Row
from fspkd.config.published import check_published
from fspkd.config.results import Claim, Curves, Depth, InferenceTime, Matrices
from fspkd.config.training import divided, divided_stop
from fspkd.data.sets import LOCATION_VARIABLE, WEIGHTS_VARIABLE, DataSet, PretrainedWeights
from fspkd.errors import UserError
from fspkd.networks.network import Network
from fspkd.runs.folder import RUNS, RunFolder
from fspkd.runs.spec import Run, RunSpec
from fspkd.settings import row_of, suggest

Other = Run | PretrainedWeights | None  # what a run may start or learn from


class Plan:
    """The runs of a preset. `replicates` holds, for each replicate, the last run of each net of each row.

    Their folders are in `runs`, and of the class `folder`. Raises UserError if rows depend on each other in a circle, if
    teacher and student do not fit, and if claims or published numbers lack what the preset needs of them.
    """

    def __init__(
        self,
        preset: Preset,
        environment: Mapping[str, str] | None = None,
        runs: Path = RUNS,
        folder: type[RunFolder] = RunFolder,
    ) -> None:
        environment = os.environ if environment is None else environment
        self.preset = preset
        self._place, self._folder = runs, folder
        check_published(preset)
        self.claims: tuple[Claim, ...] = load_claims(preset)
        self.runs: dict[str, Run] = {}
        self.data = {
            key: DataSet(data, environment.get(LOCATION_VARIABLE.format(name=data.name.upper())) or None)
            for key, data in preset.data.items()
        }
        elsewhere = [
            PretrainedWeights(
                name,
                pretrained,
                preset.networks[pretrained.network],
                environment.get(WEIGHTS_VARIABLE.format(name=name.upper())) or None,
            )
            for name, pretrained in preset.pretrained.items()
        ]
        used = {row.start for row in preset.rows.values()}
        self.pretrained = {weights.name: weights for weights in elsewhere if weights.name in used}
        used = {reference for row in preset.rows.values() for reference in _teachers(row)}
        self.teachers = {weights.name: replace(weights, whole=True) for weights in elsewhere if weights.name in used}
        self._check_order()
        self.replicates: list[dict[str, list[Run]]] = [{} for _ in range(preset.replicates)]
        for replicate in range(1, preset.replicates + 1):
            for name in preset.rows:
                self._row(name, replicate)

    @property
    def packed(self) -> list[DataSet | PretrainedWeights]:
        """All data sets, and all weights from elsewhere that rows start or learn from."""
        return [*self.data.values(), *self.pretrained.values(), *self.teachers.values()]

    @property
    def rows(self) -> dict[str, list[Run]]:
        """The nets of each row, in the first replicate."""
        return self.replicates[0]

    def nets(self, reference: str, replicate: int | None = None) -> list[Run]:
        """The nets of a row, or the one that row/number names, in one replicate or in all."""
        row, _, number = reference.partition("/")
        replicates = self.replicates if replicate is None else [self.replicates[replicate - 1]]
        return [net for rows in replicates for net in rows[row] if number in ("", str(net.spec.number))]

    def net(self, reference: str, replicate: int = 1) -> Run:
        """The last run of a net named as row/number."""
        row, number = reference.split("/")
        return self._row(row, replicate)[int(number) - 1]

    def row_runs(self, reference: str, replicate: int | None = None) -> list[Run]:
        """All runs that count towards nets, in one replicate or in all: their rows' stage-1 runs and the nets, each once."""
        nets = self.nets(reference, replicate)
        first = [run.stage1 for run in nets if run.stage1 and run.stage1.spec.row == run.spec.row]
        return list(dict.fromkeys([*first, *nets]))

    def shown(self, nets: dict[str, str]) -> list[Run]:
        """The nets of labelled rows, or of single nets of them, in all replicates, each once."""
        return list(dict.fromkeys(run for reference in nets.values() for run in self.nets(reference)))

    def curves(self, figure: str) -> dict[str, list[Run]]:
        """The runs behind each curve of a figure, each once, by label: nets, or the first stages of nets."""
        settings = cast(Curves, self.preset.figures[figure])
        nets = {label: self.nets(reference) for label, reference in settings.curves.items()}
        if settings.stage == 1:
            return {
                label: list(dict.fromkeys(net.stage1 for net in of_row if net.stage1)) for label, of_row in nets.items()
            }
        return nets

    def drawn(self, figure: str) -> list[list[Run]]:
        """The runs that a figure draws: a list for each row, or single net, that it names."""
        settings = self.preset.figures[figure]
        if isinstance(settings, Curves):
            return list(self.curves(figure).values())
        if isinstance(settings, Matrices):
            return [[net.stage1 for net in self.nets(settings.net, 1) if net.stage1]]
        return [self.nets(reference) for reference in settings.nets]

    @property
    def compared(self) -> list[Run]:
        """The nets whose accuracies tables, figures and time comparisons show and claims compare, each once."""
        shown = [row for table in self.preset.tables.values() for row in table.rows.values()]
        others = (*self.preset.figures.values(), *self.preset.timings.values())
        shown += [nets for other in others if isinstance(other, Depth | InferenceTime) for nets in other.nets]
        return list(dict.fromkeys(run for reference in shown for run in self.nets(reference)))

    def jobs(self, members: int, without: Collection[str], wanted: Mapping[str, Hashable]) -> list[tuple[Run, ...]]:
        """All runs, except those that another plan trains, in groups of up to `members` that one process trains together.

        A group's runs are on one data set and equally deep in the graph of runs, so none waits for another; and `wanted` has
        the same value, or none, for all of them, so that none is trained just because another is asked for.
        """
        layers: dict[tuple[DataSet, int, Hashable], list[Run]] = {}
        for run in self.runs.values():
            if run.id not in without:
                layers.setdefault((run.data, run.depth, wanted.get(run.id)), []).append(run)
        return [
            tuple(layer[first : first + members])
            for layer in layers.values()
            for first in range(0, len(layer), members)
        ]

    def run(self, run_id: str) -> Run:
        """The run of that id; raises UserError if the preset has none."""
        if run_id not in self.runs:
            raise UserError(
                f"run {run_id!r}: preset {self.preset.name!r} has no such run. A run's name ends in a hash of its settings, "
                f"so it changes with them{suggest(run_id, self.runs)}"
            )
        return self.runs[run_id]

    def _check_order(self) -> None:
        """Raise UserError if rows depend on each other in a circle."""
        try:
            graphlib.TopologicalSorter({name: set(_needed(row)) for name, row in self.preset.rows.items()}).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(reversed(error.args[1]))
            raise UserError(f"preset {self.preset.name!r}: rows depend on each other in a circle: {circle}.") from None

    def _row(self, name: str, replicate: int) -> list[Run]:
        rows = self.replicates[replicate - 1]
        if name not in rows:
            row = self.preset.rows[name]
            start = self.net(row.start, replicate) if "/" in row.start else self.pretrained.get(row.start)
            rows[name] = [self._net(name, replicate, number, start) for number in range(1, row.nets + 1)]
        return rows[name]

    def _net(self, name: str, replicate: int, number: int, start: Other) -> Run:
        """The last run of a net."""
        row = self.preset.rows[name]
        if row.stage1_of:
            start = self._row(row.stage1_of, replicate)[0].start
        elif row.stage1:
            shared = None if row.stage1_shared else number
            start = self._run(name, replicate, shared, 1, row.stage1, start)
        return self._run(name, replicate, number, 2, row.stage2, start)

    def _run(
        self, row_name: str, replicate: int, number: int | None, stage: Literal[1, 2], method: Method, start: Other
    ) -> Run:
        preset, row = self.preset, self.preset.rows[row_name]
        reference = getattr(method, "teacher", None)
        teacher: Other = self.teachers.get(reference or "")
        if has_own_teacher := reference is not None and teacher is None and "/" not in reference:
            reference = f"{reference}/{number}"
        if reference and teacher is None:
            teacher = self.net(reference, replicate)
        data, divide = self.data[row.data], preset.divide_schedules.get(row.data, 1)
        own: dict[str, object] = {"optimizer": row.optimizer} if row.optimizer else {}
        own["stop"] = divided_stop(row.stop or preset.training.stop, divide, preset.training.evaluate_every)
        if stage == 1:
            own["evaluate_every"] = None  # first stages are not tested: their linear layer is untrained
        spec = RunSpec(
            row=row_name,
            replicate=replicate,
            number=number,
            stage=stage,
            # Nets that share their teacher see the same batches, so that the teacher is computed once; others gain nothing.
            batches="own" if stage == 1 and has_own_teacher else None,
            seed=preset.seed,
            data=data.id,
            augment=data.settings.augment,
            network=preset.networks[row.network],
            start=start.id if start else None,
            method=method,
            teacher=teacher.id if teacher else None,
            schedule=divided(preset.schedules[method.schedule], divide),
            training=preset.training.model_copy(update=own),
        )
        self._check_fit(spec, data, start, teacher)
        after_stage1 = isinstance(start, Run) and start.spec.stage == 1
        phase = "stage1" if stage == 1 else "students" if teacher or after_stage1 else "teachers"
        run = Run(spec, self._folder(self._place / phase / spec.id), data, start, teacher)
        return self.runs.setdefault(run.id, run)

    def _check_fit(self, spec: RunSpec, data: DataSet, start: Other, teacher: Other) -> None:
        """Raise UserError if a run cannot start from its start or learn from its teacher."""
        where = f"preset {self.preset.name!r}: {spec.name}"
        if start and start.network != spec.network:
            raise UserError(
                f"{where} starts from {start.id}, whose network is {start.network!r} and not {spec.network!r}. Weights can "
                f"only be copied between identical networks."
            )
        for other, what in ((teacher, "learns from"), (start, "starts from")):
            # Validation images only decide when to stop and are no result, so another net may have seen them.
            if not isinstance(other, Run) or other.data.undivided.id == data.undivided.id:
                continue
            # A start from other data is transfer learning, but not where it may have seen what is held out here.
            if other is teacher or other.data.whole.id == data.whole.id:
                raise UserError(
                    f"{where} is trained on {_shown(data)} and {what} {other.spec.name}, which is trained on "
                    f"{_shown(other.data)}. Give both rows the same data."
                )
        if problem := spec.method.problem(spec.network, teacher.network if teacher else None):
            raise UserError(f"{where}: {problem}")
        _check_layers(where, spec.method, spec.network, spec.method.student_taps(spec.network))
        if teacher:
            _check_layers(where, spec.method, teacher.network, spec.method.teacher_taps(teacher.network))


def _check_layers(where: str, method: Method, network: Network, taps: tuple[str, ...]) -> None:
    """Raise UserError if a method reads taps that a network does not have."""
    known = dict.fromkeys((*network.parts, *network.maps))
    for tap in taps:
        if tap not in known:
            raise UserError(
                f"{where}: method {method.method!r} reads {tap!r}: {network.name} has no such layer{suggest(tap, known)}"
            )


def _shown(data: DataSet) -> str:
    """What tells a data set from others in a message."""
    settings, told = data.settings, []
    told += [f"hold_out = {settings.hold_out}"] if settings.hold_out else []
    told += [f"preprocess = {settings.preprocess.model_dump(exclude_none=True)}"] if settings.preprocess else []
    return f"{settings.name!r}" + (f" with {' and '.join(told)}" if told else "")


def _teachers(row: Row) -> Iterator[str]:
    """The teachers that its stages name."""
    references = (getattr(method, "teacher", None) for method in (row.stage1, row.stage2))
    yield from (reference for reference in references if reference)


def _needed(row: Row) -> Iterator[str]:
    """The rows that a row waits for, and teachers that were trained elsewhere."""
    start = row.start if "/" in row.start else None  # not scratch or pretrained weights
    references = [start, row.stage1_of, *_teachers(row)]
    yield from (row_of(reference) for reference in references if reference)
