#!/usr/bin/env python
"""Export a preset's finished nets into the repository: python scripts/export.py results/tenth

Writes reproduction/<preset>/runs/ (what a reader needs to check each net), and everything computed from them.
"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plan import plan_for
from fspkd.report.reproduction import export, exported, recompute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    args = parser.parse_args()
    plan = plan_for(args.results)
    print(f"{len(export(plan))} finished runs")
    for path in recompute(exported(plan.preset)):
        print(path)


if __name__ == "__main__":
    run_command(main)
