"""What can be asked of Snakemake, what is there already, and what was asked for that nothing makes. Imports no torch."""

import difflib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Protocol

from tabulate import tabulate

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.runs.spec import Run
from fspkd.workflow import Result

KINDS = {
    "tables": ".csv",
    "figures": ".png",
    "timings": ".csv",
}  # the sections of a preset, and what stands for a result


class Rule(Protocol):
    """What is read of Snakemake's rules."""

    name: str

    def is_producer(self, requested_output: str) -> bool: ...


def results_of(plan: Plan) -> list[str]:
    """The file that stands for each result of a preset."""
    names = [f"{name}{end}" for kind, end in KINDS.items() for name in getattr(plan.preset, kind)]
    names += ["claims.csv"] if plan.claims else []
    return [f"{plan.preset.results}/{name}" for name in (*names, "summary.html")]


def needed_runs(plan: Plan) -> list[Run]:
    """The runs that the results of a preset show, and those that these start from and learn from."""
    left = [run for kind in KINDS for name in getattr(plan.preset, kind) for run in Result(plan, kind[:-1], name).nets]
    found: dict[str, Run] = {}
    while left:
        run = left.pop()
        if isinstance(run, Run) and run.id not in found:
            found[run.id] = run
            left += [run.start, run.teacher]
    return list(found.values())


def check_targets(
    targets: Iterable[str], rules: Iterable[Rule], plans: Collection[Plan], problems: Collection[UserError]
) -> None:
    """Raise UserError for what is asked for where nothing makes it: its preset is not valid, or its name is not right."""
    rules = list(rules)
    known = [rule.name for rule in rules] + [file for plan in plans for file in results_of(plan)]
    for target in targets:
        if target in known or Path(target).exists() or any(rule.is_producer(target) for rule in rules):
            continue
        if problems:
            raise UserError("\n".join(map(str, problems)))
        close = difflib.get_close_matches(target, known, 1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise UserError(f"{target}: nothing makes this file.{meant} What there is: snakemake")


def overview(plans: Iterable[Plan]) -> str:
    """A screen of what presets make, what is made already, and what is left to train."""
    lines = []
    for plan in sorted(plans, key=lambda plan: plan.preset.results):
        runs, files = needed_runs(plan), results_of(plan)
        left = [run for run in runs if not run.folder.is_finished]
        lines.append(
            {
                "folder": plan.preset.results,
                "made": f"{sum(map(os.path.exists, files))}/{len(files)}",
                "trained": f"{len(runs) - len(left)}/{len(runs)}",
                "iterations left": f"{sum(run.spec.iterations for run in left):,}",
                "results": " ".join(Path(file).stem for file in files[:-1]),
            }
        )
    layout = {"colalign": ("left", *["right"] * 3, "left"), "maxcolwidths": [None] * 4 + [60]}
    table = tabulate(lines, headers="keys", tablefmt="plain", disable_numparse=True, **layout)
    return (
        f"{table}\n\n"
        "Tables, times and claims are .csv, figures .png; summary.html shows all of a folder's results on a page.\n"
        "snakemake FOLDER/FILE makes a file and trains what it needs; -n before it says what that would be."
    )
