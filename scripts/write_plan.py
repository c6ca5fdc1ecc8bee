#!/usr/bin/env python
"""Write what each phase of a preset will compute, a YAML file a phase: python scripts/write_plan.py results/quickstart

DVC compares these files, so that a changed setting, or a change in the code, reruns the phases that it concerns.
"""

import argparse
from pathlib import Path

import yaml

from fspkd.errors import run_command
from fspkd.files import write_atomically
from fspkd.plan import plan_for
from fspkd.provenance import code_sha256
from fspkd.runs.spec import PHASES, Run


def decided_by(run: Run) -> dict:
    """All that decides a run's outcome: its settings, and the code."""
    return {**run.spec.model_dump(mode="json"), "code_sha256": code_sha256(run.spec.method.method)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    args = parser.parse_args()
    plan = plan_for(args.results)
    timings = {name: timing.model_dump(mode="json") for name, timing in plan.preset.timings.items()}
    phases = {
        "data": {p.id: p.settings.model_dump(mode="json") for p in (*plan.data.values(), *plan.pretrained.values())},
        **{phase: {run.id: decided_by(run) for run in plan.phase(phase)} for phase in PHASES},
        "tables": {name: table.model_dump(mode="json") for name, table in plan.preset.tables.items()},
        "figures": {name: figure.model_dump(mode="json") for name, figure in plan.preset.figures.items()},
        "report": {"claims": [claim.model_dump(mode="json") for claim in plan.claims], "timings": timings},
    }
    for phase, content in phases.items():
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        write_atomically(args.results / "plan" / f"{phase}.yaml", text.encode())


if __name__ == "__main__":
    run_command(main)
