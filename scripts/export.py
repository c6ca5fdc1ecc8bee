#!/usr/bin/env python
"""Export a preset's finished nets into the repository: python scripts/export.py results/tenth

Writes reproduction/<preset>/runs/ (what a reader needs to check each net), and everything computed from them. Weights that
were exported before are brought up to date.
"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plans import plan_for
from fspkd.report.reproduction import export, exported, of_former_settings, recompute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    parser.add_argument(
        "--weights", action="store_true", help="export weights too: 0.3 MB of a ResNet-8, 1.5 of a ResNet-26"
    )
    args = parser.parse_args()
    plan = plan_for(args.results)
    print(f"{len(export(plan, args.weights))} finished runs")
    there = exported(plan.preset)
    for path in recompute(there):
        print(path)
    for path in of_former_settings(there):
        print(f"{path}: of former settings, shown nowhere; delete this folder")


if __name__ == "__main__":
    run_command(main)
