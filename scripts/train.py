#!/usr/bin/env python
"""Train a run, or several side by side: python scripts/train.py results/quickstart/runs/teachers/teacher-1-0123456789

Goes on from checkpoints where there are any. The runs of a table: snakemake -n results/quickstart/table1.csv
"""

import argparse
import os
from pathlib import Path

from fspkd.errors import UserError, run_command
from fspkd.plan import plan_for
from fspkd.tracking.follow import followed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="of runs of one preset, which is found by them")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default the GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--checkpoint-seconds", type=float, default=30, help="between checkpoints (default: 30)")
    args = parser.parse_args()
    if args.threads < 1:
        raise UserError(f"--threads = {args.threads}: must be 1 or more.")
    if stray := [folder for folder in args.folders if len(folder.parts) < 4]:
        raise UserError(f"{stray[0]}: no folder of a run. Name one as results/quickstart/runs/<phase>/<run>.")
    results = {folder.parents[2] for folder in args.folders}
    if len(results) > 1:
        raise UserError(f"{', '.join(map(str, args.folders))}: are runs of several presets. Train them one by one.")
    plan = plan_for(folder := results.pop())  # before torch, so that a mistake is told at once
    runs = list(dict.fromkeys(plan.run(folder.name) for folder in args.folders))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to others

    with followed(folder):
        from fspkd.engine import device
        from fspkd.train.loop import train

        train(runs, device.choose(args.device, args.threads), args.checkpoint_seconds)


if __name__ == "__main__":
    run_command(main)
