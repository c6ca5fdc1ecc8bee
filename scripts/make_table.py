#!/usr/bin/env python
"""Write a table as CSV, Markdown, HTML and LaTeX, and as metrics: python scripts/make_table.py results/quickstart/table1.csv"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plans import plan_for
from fspkd.report import tables
from fspkd.result import Result
from fspkd.runs.spec import check_finished
from fspkd.tracking.follow import followed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the table's CSV file")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    table = Result.at(plan, "table", args.output)
    check_finished(table.runs)
    with followed(args.output.parent):
        csv = tables.write(plan, table.name)
    print(csv.with_suffix(".md").read_text(), flush=True)


if __name__ == "__main__":
    run_command(main)
