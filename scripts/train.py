#!/usr/bin/env python
"""Train one run: python scripts/train.py results/quickstart/runs/teacher-1-0123456789

Goes on from the run's checkpoint where there is one. The runs of a table: snakemake -n results/quickstart/table1.csv
"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.live import followed
from fspkd.plan import plan_for


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the run's folder; the preset that plans it is found by it")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default the GPU where there is one")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--checkpoint-seconds", type=float, default=30, help="between checkpoints (default: 30)")
    args = parser.parse_args()
    run = plan_for(args.folder.parent.parent).run(args.folder.name)  # before torch, so that a mistake is told at once

    with followed(run.folder):
        from fspkd.train import device
        from fspkd.train.loop import train

        train(run, device.choose(args.device, args.threads), args.checkpoint_seconds)


if __name__ == "__main__":
    run_command(main)
