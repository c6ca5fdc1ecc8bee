#!/usr/bin/env python
"""Draw a table, or the claims, from its CSV as PNG and SVG: python scripts/draw_picture.py results/quickstart/table1.png"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plan import plan_for, result_of
from fspkd.report import pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the picture's PNG file")
    args = parser.parse_args()
    preset = (plan := plan_for(args.output.parent)).preset
    csv = args.output.with_suffix(".csv")
    if csv.stem == "claims":
        title = f"What the paper claims, and what came out (preset {preset.name})"
        pictures.write_claims(csv, args.output, title, preset.demonstration)
    else:
        table = preset.tables[result_of(plan, "tables", args.output)]
        title = f"{table.title} (preset {preset.name})"
        pictures.write_table(csv, args.output, title, f"test {table.measured} in percent")


if __name__ == "__main__":
    run_command(main)
