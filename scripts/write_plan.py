#!/usr/bin/env python
"""Write what each phase of a preset will compute, one YAML file per phase: python scripts/write_plan.py results/quickstart

DVC compares these files, so that a changed setting, or a change in the code, reruns the phases that it affects.
"""

import argparse
import sys
from pathlib import Path

import yaml

from fspkd.config.load import CONFIG
from fspkd.errors import run_command
from fspkd.files import file_sha256, write_atomically
from fspkd.plan import Plan
from fspkd.plans import plan_for
from fspkd.result import Result, read_by_results, wanted_by_results
from fspkd.runs.folder import PHASES
from fspkd.runs.spec import Run
from fspkd.settings import Settings
from fspkd.workflow.dvc import PARAMS, left_out


def settings_of(settings: Settings) -> dict:
    """Settings as plain YAML values, without those that are None."""
    return settings.model_dump(mode="json", exclude_none=True)


def decided_by(run: Run) -> dict:
    """All that decides a run's outcome: its settings, and the code."""
    return {**settings_of(run.spec), "code_sha256": run.code_sha256}


def shown_by(plan: Plan, kind: str, name: str) -> dict:
    """A result's settings, the runs that it shows, and the checksum of the file of published numbers that it may name."""
    result = Result(plan, kind, name)
    file = getattr(result.settings, "reference", None)
    reference = {"reference_sha256": file_sha256(CONFIG / file)} if file else {}
    return {**settings_of(result.settings), "runs": [run.id for run in result.runs], **reference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    args = parser.parse_args()
    plan = plan_for(args.results)
    preset, wanted = plan.preset, wanted_by_results(plan)
    words = {"about": preset.about} if preset.demonstration else {}  # which its tables say
    phases = {
        "data": {read.id: settings_of(read.settings) for read in read_by_results(plan)},
        **{phase: {run.id: decided_by(run) for run in wanted if run.phase == phase} for phase in PHASES},
        "tables": {name: {**shown_by(plan, "table", name), **words} for name in preset.tables},
        "figures": {name: shown_by(plan, "figure", name) for name in preset.figures},
        "timings": {name: shown_by(plan, "timing", name) for name in preset.timings},
        "claims": [settings_of(claim) for claim in plan.claims],
        "page": preset.model_dump(mode="json", include={"about", "demonstration"}),
    }
    if missing := left_out(plan):
        print(
            f"{PARAMS} does not name {', '.join(missing)}: made all the same, but DVC will not keep them.",
            file=sys.stderr,
        )
    for phase, content in phases.items():
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(args.results / "plan" / f"{phase}.yaml", text.encode())


if __name__ == "__main__":
    run_command(main)
