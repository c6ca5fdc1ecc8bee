"""What Snakemake can be asked to make, what exists already, and targets that nothing makes. Imports no torch."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Protocol

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from tabulate import tabulate

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import not_found
from fspkd.result import results_of, wanted_by_results
from fspkd.settings import suggest


class Rule(Protocol):
    """What is used of Snakemake's rules."""

    name: str

    def is_producer(self, requested_output: str) -> bool: ...


def check_targets(
    targets: Iterable[str], rules: Iterable[Rule], plans: Collection[Plan], problems: list[UserError]
) -> None:
    """Raise UserError for a target that nothing makes: its preset is invalid, or its name is wrong."""
    rules = list(rules)
    known = [rule.name for rule in rules] + [result.file for plan in plans for result in results_of(plan)]
    for target in map(os.path.normpath, targets):  # as Snakemake reads them
        if target in known or any(rule.is_producer(target) for rule in rules):
            continue
        is_valid = not problems or any(plan.preset.results == str(Path(target).parent) for plan in plans)
        meant = suggest(target, known, otherwise=".") if is_valid else "."  # or its preset may be one with problems
        raise not_found(f"{target}: no rule makes this file{meant} For an overview: snakemake", problems)


def look_at_targets(
    workflow: Any, plans: Collection[Plan], problems: list[UserError], of_other_code: Collection[str]
) -> None:
    """Have a Snakemake workflow look at its targets when it builds its DAG; it does not know them while it reads its rules.

    Before that, report targets that nothing makes or, without targets and a rule in Snakefile itself, print an overview of
    what there is; after it, report the nets of other code, since only then is it known which nets are shown.
    """
    build = workflow._build_dag

    def build_dag() -> None:
        asked = workflow.dag_settings
        try:
            check_targets(asked.targets, workflow.rules, plans, problems)
        except UserError as error:
            raise WorkflowError(str(error)) from None
        for problem in problems:
            logger.warning(f"skipped: {problem}")
        if not (asked.targets or asked.target_jobs or asked.forcerun or workflow.default_target):
            print(overview(plans))
            raise SystemExit
        build()
        if of_other_code and not workflow.remote_exec:
            some = ", ".join(sorted(of_other_code)[:3]) + (", ..." if len(of_other_code) > 3 else "")
            logger.warning(
                f"{len(of_other_code)} of these nets were trained by another version of the code and are kept as they are "
                f"({some}). To retrain them, delete their folders; for all of a preset: python scripts/drop_stale.py FOLDER"
            )

    workflow._build_dag = build_dag


def overview(plans: Iterable[Plan]) -> str:
    """An overview of what presets make, what is made already, and what is left to train."""
    lines = []
    for plan in sorted(plans, key=lambda plan: plan.preset.results):
        results = results_of(plan)
        runs = wanted_by_results(plan)
        left = [run for run in runs if not run.folder.is_finished]
        lines.append(
            {
                "folder": plan.preset.results,
                "made": f"{sum(Path(result.file).exists() for result in results)}/{len(results)}",
                "trained": f"{len(runs) - len(left)}/{len(runs)}",
                "iterations left": f"{sum(run.spec.iterations for run in left):,}",
                "results": " ".join(Path(result.file).stem for result in results[:-1]),
            }
        )
    layout = {"colalign": ("left", *["right"] * 3, "left"), "maxcolwidths": [None] * 4 + [60]}
    table = tabulate(lines, headers="keys", tablefmt="plain", disable_numparse=True, **layout)
    return (
        f"{table}\n\n"
        "Tables, times and claims are .csv, figures .png; summary.html shows all of a folder's results on one page.\n"
        "snakemake FOLDER/FILE makes a file and trains what it needs; snakemake -n FOLDER/FILE only shows what would run."
    )
