#!/usr/bin/env python
"""Pack a data set, or pretrained weights, that a preset names: python scripts/pack.py data/packed/digits/0123456789.npz

FSPKD_DATA_<NAME> in the environment says where the images of data set <NAME> are on this machine, FSPKD_WEIGHTS_<NAME> where
the file of weights <NAME> is.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from fspkd.data.pack import pack
from fspkd.data.sets import DataSet, PretrainedWeights
from fspkd.errors import UserError, run_command
from fspkd.plan import Plan
from fspkd.plans import load_plans, not_found
from fspkd.result import shown_by_results
from fspkd.runs.spec import Run
from fspkd.settings import suggest


def nearness(packed: DataSet | PretrainedWeights) -> int:
    """2 for what is on this machine, 1 for a download, 0 for what should be here and is not."""
    return 2 * Path(packed.place).exists() if packed.place else 1


def size_check(plan: Plan, run: Run) -> Callable[[tuple[int, int]], None]:
    """What raises UserError, and names the preset, if that run cannot use images of a height and width."""

    def check(size: tuple[int, int]) -> None:
        try:
            run.check_size(size)
        except UserError as error:
            raise UserError(f"preset {plan.preset.name!r}: {error}") from error

    return check


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the packed file; its name says which data set, or which weights")
    args = parser.parse_args()
    plans, problems = load_plans()
    # Presets may have the same images from several sources: those here come before a download, the first preset's first.
    given = [packed for plan in plans.values() for packed in plan.packed]
    known = {packed.path: packed for packed in sorted(reversed(given), key=nearness)}
    if args.output not in known:
        message = f"{args.output}: no preset in config/ has such data or weights{suggest(str(args.output), known)}"
        raise not_found(message, problems)
    # Check whether nets can use the images now, not when their teachers have been trained for hours.
    checks = [
        size_check(plan, run)
        for plan in plans.values()
        for run in shown_by_results(plan)
        if run.data.path == args.output
    ]
    pack(known[args.output], checks)


if __name__ == "__main__":
    run_command(main)
