#!/usr/bin/env python
"""Pack pretrained weights that a preset names: python scripts/pack_weights.py data/packed/imagenet/0123456789.pt

FSPKD_WEIGHTS_<NAME> in the environment says where the file of weights <NAME> lies on this machine.
"""

import argparse
from pathlib import Path

from fspkd.data.pretrained import pack_weights
from fspkd.errors import run_command
from fspkd.plan import load_plans, not_found
from fspkd.settings import suggest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the packed file; its name says which weights")
    args = parser.parse_args()
    plans, problems = load_plans()
    known = {p.weights: p for plan in plans.values() for p in plan.weights}
    if args.output not in known:
        message = f"{args.output}: no preset in config/ has such weights{suggest(str(args.output), known)}"
        raise not_found(message, problems)
    print(f"packed {known[args.output].settings.weights} into {pack_weights(known[args.output])}")


if __name__ == "__main__":
    run_command(main)
