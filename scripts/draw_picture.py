#!/usr/bin/env python
"""Draw a table, or the claims, from its CSV as PNG and SVG: python scripts/draw_picture.py results/quickstart/table1.png"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plans import plan_for
from fspkd.report import pictures
from fspkd.result import Result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the picture's PNG file")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    if args.output.stem == "claims":
        pictures.write_claims(plan)
    else:
        pictures.write_table(plan, Result.at(plan, "table", args.output).name)


if __name__ == "__main__":
    run_command(main)
