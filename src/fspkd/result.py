"""What a preset makes of its runs, and which of them each result shows. Imports no torch."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

from fspkd.config.results import TrainingTime
from fspkd.data.sets import DataSet, PretrainedWeights
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.runs.spec import Run, with_origins
from fspkd.settings import suggest

# The suffixes of a result's files, by kind; the first is that of the file that stands for it. A figure also has files of
# numbers.
ENDS = {
    "table": (".csv", ".md", ".tex", ".html", ".png", ".svg"),
    "figure": (".png", ".svg"),
    "timing": (".csv", ".html"),
    "claims": (".csv", ".md", ".html", ".png", ".svg"),
    "summary": (".html",),
}


@dataclass(frozen=True)
class Result:
    """Something that is made of a preset's runs: a table, figure or timing of that name, the claims, the summary."""

    plan: Plan
    kind: str
    name: str = ""  # of claims and the summary, of which there is one

    @classmethod
    def at(cls, plan: Plan, kind: str, path: Path) -> Self:
        """The table, figure or timing whose file a path names; raises UserError if the preset has none of that name."""
        known = getattr(plan.preset, f"{kind}s")
        if path.stem not in known:
            raise UserError(f"{path}: {path.stem!r}: no such entry in {kind}s{suggest(path.stem, known)}")
        return cls(plan, kind, path.stem)

    @property
    def file(self) -> str:
        """The file that stands for it."""
        return self.files[0]

    @property
    def files(self) -> list[str]:
        """All of its files, but those of a table for `dvc metrics`."""
        ends = (*ENDS[self.kind], *(self.settings.ends if self.kind == "figure" else ()))
        return [f"{self.plan.preset.results}/{self.name or self.kind}{end}" for end in ends]

    @property
    def settings(self) -> Any:
        """The settings of the table, figure or timing."""
        return getattr(self.plan.preset, f"{self.kind}s")[self.name]

    @property
    def nets(self) -> list[Run]:
        """The nets that it shows, or the first stages of nets."""
        match self.kind:
            case "table":
                return self.plan.shown(self.settings.rows)
            case "figure":
                return list(dict.fromkeys(chain.from_iterable(self.plan.drawn(self.name))))
            case "timing":
                return [net for nets in self.settings.nets for net in self.plan.nets(nets, 1)]
        return self.plan.compared

    @property
    def runs(self) -> list[Run]:
        """Those nets, and the first stages that they start from."""
        nets = self.nets
        return list(dict.fromkeys([*(net.stage1 for net in nets if net.stage1), *nets]))

    @property
    def to_train(self) -> list[Run]:
        """What has to be trained for it: its runs; for trainings that it times, only their teachers."""
        if self.kind == "timing" and isinstance(self.settings, TrainingTime):
            return [run.teacher for run in self.runs if isinstance(run.teacher, Run)]
        return self.runs


def results_of(plan: Plan) -> list[Result]:
    """All that a preset makes, its page last."""
    kinds = ("table", "figure", "timing")
    named = [Result(plan, kind, name) for kind in kinds for name in getattr(plan.preset, f"{kind}s")]
    return [*named, *([Result(plan, "claims")] if plan.claims else []), Result(plan, "summary")]


def wanted_by_results(plan: Plan) -> list[Run]:
    """The runs that a preset's results need trained, then all that these wait for, each once; the preset may have others."""
    return with_origins(run for result in results_of(plan) for run in result.to_train)


def shown_by_results(plan: Plan) -> list[Run]:
    """The runs that a preset's results show or time, then all that these wait for, each once."""
    return with_origins(run for result in results_of(plan) for run in result.runs)


def read_by_results(plan: Plan) -> list[DataSet | PretrainedWeights]:
    """The packed files that these runs read: data sets and weights that were trained elsewhere, each once."""
    shown = shown_by_results(plan)
    found: list[DataSet | PretrainedWeights] = [run.data for run in shown]
    found += [other for run in shown for other in (run.start, run.teacher) if isinstance(other, PretrainedWeights)]
    return list({read.id: read for read in found}.values())
