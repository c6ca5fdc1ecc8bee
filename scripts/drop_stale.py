#!/usr/bin/env python
"""Delete what is damaged or was made by other code: python scripts/drop_stale.py results/quickstart

It checks all that the preset's results wait for. A damaged net loses its damaged files and its manifest, one trained by
other code only its manifest; then `snakemake` makes them again, from the net's checkpoint if that is usable, or `dvc
checkout` takes them from DVC's cache.
"""

import argparse
from pathlib import Path

from fspkd.data.packed import load_data
from fspkd.data.sets import DataSet, PretrainedWeights
from fspkd.errors import DamagedError, run_command
from fspkd.plans import plan_for
from fspkd.result import read_by_results, wanted_by_results
from fspkd.runs.folder import PHASES
from fspkd.runs.spec import Run


def drop_data(data: DataSet) -> None:
    """Delete a packed file that is damaged or holds another data set."""
    try:
        load_data(data)
    except DamagedError as damage:
        print(damage, flush=True)
        data.path.unlink()


def drop_weights(pretrained: PretrainedWeights) -> None:
    """Delete packed pretrained weights that are damaged."""
    from fspkd.weights import load_weights

    try:
        load_weights(pretrained.weights, pretrained.id)
    except DamagedError as damage:
        print(damage, flush=True)
        pretrained.weights.unlink()


def drop_run(run: Run) -> None:
    """Delete a finished run's manifest if the run is damaged or of other code, and any damaged files."""
    manifest = run.folder.manifest
    if damaged := run.folder.damaged_outputs():
        print(f"{', '.join(map(str, damaged))}: not as recorded in {manifest}; deleted", flush=True)
        for file in damaged:
            file.unlink(missing_ok=True)
    elif run.is_of_other_code:
        print(f"{run.folder}: trained by another version of the code; no longer counted as finished", flush=True)
    else:
        return
    manifest.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    parser.add_argument("phase", nargs="?", choices=["data", *PHASES], help="only this phase (default: all)")
    args = parser.parse_args()
    plan = plan_for(args.results)
    if args.phase in (None, "data"):
        for read in read_by_results(plan):
            if isinstance(read, PretrainedWeights) and read.weights.exists():
                drop_weights(read)
            elif isinstance(read, DataSet) and read.path.exists():
                drop_data(read)
    for run in wanted_by_results(plan):
        if args.phase in (None, run.phase) and run.folder.is_finished:
            drop_run(run)


if __name__ == "__main__":
    run_command(main)
