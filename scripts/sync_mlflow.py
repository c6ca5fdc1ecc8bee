#!/usr/bin/env python
"""Send to MLflow what it does not have yet: python scripts/sync_mlflow.py results/quickstart

Needs only the folders of results, so it can be done later and on another machine. A workflow does it automatically.
"""

import argparse
from pathlib import Path

from fspkd.errors import UserError, run_command
from fspkd.plans import load_plans, plan_for
from fspkd.tracking.follow import Sender, has_begun, without_password


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*", help="folders of results (default: those of all presets)")
    parser.add_argument(
        "--server",
        help="the address of an MLflow server: the experiments' pages there are printed. Where runs are sent is up to the "
        "variable MLFLOW_TRACKING_URI (default: mlflow.db)",
    )
    args = parser.parse_args()
    for results in args.results:
        if not has_begun(plan_for(results)):
            raise UserError(f"{results}: holds no runs. Make some first: snakemake {results}/summary.html")
    plans, problems = ({}, []) if args.results else load_plans()
    for problem in problems:
        print(problem)
    sender = Sender(args.results or list(map(Path, plans)))
    is_sent = sender.send()
    if args.server and args.server.startswith("http"):
        for results, sync in sender.syncs.items():
            print(f"{results}: {without_password(args.server)}{sync.store.page}")
    if not is_sent:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
