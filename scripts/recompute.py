#!/usr/bin/env python
"""Compute tables, figures and claims again from exported nets: python scripts/recompute.py reproduction/paper

Needs neither data nor weights. `git diff reproduction` then shows what differs from what is committed.
"""

import argparse
from pathlib import Path

from fspkd.errors import UserError, run_command
from fspkd.report.reproduction import REPRODUCTION, exported_plan, recompute


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of reproduction/, each named after its preset")
    args = parser.parse_args()
    for folder in args.folders:
        if folder.resolve() != (REPRODUCTION / folder.name).resolve():
            raise UserError(
                f"{folder}: exported nets are in folders of {REPRODUCTION}: give one, such as {REPRODUCTION}/paper"
            )
        for path in recompute(exported_plan(folder.name)):
            print(path)


if __name__ == "__main__":
    run_command(main)
