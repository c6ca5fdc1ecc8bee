#!/usr/bin/env python
"""Draw a figure as PNG and SVG: python scripts/make_figure.py results/quickstart/figure3.png"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.figures import curves, draw_figure, write_figure
from fspkd.files import write_atomically
from fspkd.plan import plan_for
from fspkd.tracking import Tracker, attempt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the figure's PNG file")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    write_figure(draw_figure(plan, args.output.stem), args.output)
    numbers = curves(plan, args.output.stem).to_csv(index=False, float_format="%.6g")
    write_atomically(args.output.with_suffix(".csv"), numbers.encode())
    files = [args.output, args.output.with_suffix(".svg")]
    attempt(lambda: Tracker(plan).send_figure(args.output.stem, files))


if __name__ == "__main__":
    run_command(main)
