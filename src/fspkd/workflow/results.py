"""What the rules of tables, figures, time comparisons, verdicts and summaries ask of a plan."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_args

from snakemake.io import ancient
from snakemake.iocontainers import Wildcards

from fspkd.config.load import CONFIG
from fspkd.config.results import Curves, Depth, Figure, InferenceTime, Matrices, Plateau, Table
from fspkd.plan import Plan
from fspkd.provenance import DECIDING, PACKAGE, with_imports
from fspkd.result import Result, wanted_by_results
from fspkd.runs.spec import with_origins
from fspkd.workflow.training import Files, run_outputs

# The keys of a preset that decide what is shown of its nets.
SHOWN = {"about", "demonstration", "tables", "figures", "timings", "claims"}
APART = ("timing", "summary")  # a time is not measured again, and the summary shows what other rules made
# The suffixes of a figure's files of numbers, by kind.
FIGURES = {get_args(of.model_fields["kind"].annotation)[0]: of.ends for of in get_args(get_args(Figure)[0])}


@cache
def code(*modules: str, folders: tuple[str, ...] = ("report", "runs", "times")) -> list[str]:
    """The files of those modules, such as report/tables, and of all that they import from these folders, directly or not."""
    return list(map(str, with_imports((PACKAGE / f"{module}.py" for module in modules), folders)))


def templates(*names: str) -> list[str]:
    """The files of page templates, which no import names."""
    return [str(PACKAGE / "report" / f"{name}.html.j2") for name in names]


def _for_a_page(text: str) -> str:
    """A rule's parameter, escaped: Snakemake's report puts it as it is into a script of its page, which a text could end."""
    return text.replace("<", r"\u003c")


class ResultRule(Result):
    """What the rule of a result needs."""

    def decided_by(self) -> list[str]:
        """The settings and the runs that decide it: if they change, it is made again."""
        return [*self._words, _for_a_page(self._settings), *(run.id for run in self.runs)]

    @property
    def _settings(self) -> str:
        if self.name:
            return self.settings.model_dump_json(exclude_none=True)
        return self.plan.preset.model_dump_json(include=SHOWN, exclude_none=True)

    @property
    def _words(self) -> list[str]:
        """What a table says below, if its numbers demonstrate nothing but that the workflow runs."""
        preset = self.plan.preset
        return [_for_a_page(preset.about)] if self.kind == "table" and preset.demonstration else []

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
    def picture_decided_by(self) -> list[str]:
        """What decides that picture, besides its inputs."""
        return [*self._words, _for_a_page(self._settings)]

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
        return ResultRule(self.plans[wildcards.results], kind, wildcards.get(kind, ""))

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

    def picture_decided_by(self, wildcards: Wildcards) -> list[str]:
        """What decides the picture of a table, or of the claims, besides its inputs."""
        return self._pictured(wildcards).picture_decided_by
