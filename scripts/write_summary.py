#!/usr/bin/env python
"""Put a preset's results on one page: python scripts/write_summary.py results/quickstart/summary.html"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.files import write_atomically
from fspkd.plans import plan_for
from fspkd.report.summary import summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the HTML file")
    args = parser.parse_args()
    write_atomically(args.output, summary(plan_for(args.output.parent)))


if __name__ == "__main__":
    run_command(main)
