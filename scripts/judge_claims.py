#!/usr/bin/env python
"""Judge what the paper claims by a preset's results: python scripts/judge_claims.py results/quickstart/claims.csv"""

import argparse
from pathlib import Path

from fspkd.errors import UserError, run_command
from fspkd.plans import plan_for
from fspkd.report import claims
from fspkd.result import Result
from fspkd.runs.spec import check_finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the CSV file")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    if args.output.name != "claims.csv":
        raise UserError(f"{args.output}: verdicts are written to {args.output.with_name('claims.csv')}")
    check_finished(Result(plan, "claims").runs if plan.claims else ())
    csv = claims.write(plan)
    print(csv.with_suffix(".md").read_text(), flush=True)


if __name__ == "__main__":
    run_command(main)
