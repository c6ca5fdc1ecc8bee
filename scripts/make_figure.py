#!/usr/bin/env python
"""Draw a figure as PNG and SVG: python scripts/make_figure.py results/quickstart/figure3.png"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plans import plan_for
from fspkd.report import figures
from fspkd.result import Result
from fspkd.runs.spec import check_finished
from fspkd.tracking.follow import followed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the figure's PNG file")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    figure = Result.at(plan, "figure", args.output)
    check_finished(figure.runs)
    with followed(args.output.parent):
        figures.write(plan, figure.name)


if __name__ == "__main__":
    run_command(main)
