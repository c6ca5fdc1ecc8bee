#!/usr/bin/env python
"""Train a run of a preset, or several side by side: python scripts/train.py results/quickstart teacher-1-0123456789

Resumes from checkpoints if there are any. To list the runs of a table: snakemake -n results/quickstart/table1.csv
"""

import argparse
import os
from pathlib import Path

from fspkd.errors import UserError, run_command
from fspkd.plans import plan_for
from fspkd.tracking.follow import followed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    parser.add_argument("runs", nargs="+", help="names of runs")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default a free GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--checkpoint-seconds", type=float, default=30, help="between checkpoints (default: 30)")
    args = parser.parse_args()
    if args.threads < 1:
        raise UserError(f"--threads = {args.threads}: must be 1 or more.")
    plan = plan_for(args.results)  # before torch, so that a mistake is reported at once
    runs = list(dict.fromkeys(plan.run(name) for name in args.runs))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave the core to others

    with followed(args.results):
        from fspkd.engine.device import choose
        from fspkd.train.gpus import free_gpu
        from fspkd.train.loop import train
        from fspkd.train.machine import check_precision

        device = choose(args.device or free_gpu(), args.threads)
        if plan.preset.without_bfloat16 == "refuse":
            check_precision(runs, device)
        train(runs, device, args.checkpoint_seconds, plan.preset.name)


if __name__ == "__main__":
    run_command(main)
