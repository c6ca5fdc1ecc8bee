#!/usr/bin/env python
"""Measure a time comparison as CSV and HTML: python scripts/measure_timing.py results/quickstart/timing.csv"""

import argparse
from pathlib import Path

from fspkd.errors import run_command
from fspkd.plans import plan_for
from fspkd.result import Result
from fspkd.tracking.follow import followed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the CSV file")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; by default the GPU where there is one")
    args = parser.parse_args()
    plan = plan_for(args.output.parent)
    timing = Result.at(plan, "timing", args.output)

    from fspkd.engine import device
    from fspkd.report import timings
    from fspkd.report.kinds import module_of
    from fspkd.train.gpus import free_gpu

    kind = module_of(timing.settings)
    frame = kind.measure(plan, timing.name, device.choose(args.device or free_gpu(), threads=1))
    with followed(args.output.parent):
        timings.write(plan, timing.name, frame)
    print(kind.shown_timing(frame).to_string(index=False), flush=True)


if __name__ == "__main__":
    run_command(main)
