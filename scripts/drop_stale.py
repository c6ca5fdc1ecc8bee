#!/usr/bin/env python
"""Have snakemake make again what is damaged or was made by other code: python scripts/drop_stale.py results/quickstart teachers

For packed data the file is deleted, for a net its manifest: snakemake then finds it missing. Where only outputs are
damaged, the net's checkpoint serves to write them again.
"""

import argparse
from pathlib import Path

from fspkd.data import load_packed
from fspkd.errors import UserError, run_command
from fspkd.plan import PHASES, plan_for
from fspkd.provenance import code_sha256
from fspkd.tables import read_manifest


def drop_data(path: Path) -> None:
    """Delete a packed data set that is damaged."""
    try:
        load_packed(path)
    except UserError as damage:
        print(damage, flush=True)
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the preset's folder of results")
    parser.add_argument("phase", choices=["data", *PHASES])
    args = parser.parse_args()
    plan = plan_for(args.results)
    if args.phase == "data":
        for data in plan.data.values():
            if data.path.exists():
                drop_data(data.path)
        return

    from fspkd.train.member import damaged_outputs

    for run in plan.phase(args.phase):
        manifest = run.folder / "manifest.json"
        if not manifest.exists():
            continue
        code = code_sha256(run.spec.method.method)
        if damaged := damaged_outputs(run):
            print(f"{', '.join(map(str, damaged))}: not as {manifest} says; made again", flush=True)
        elif any(attempt["code_sha256"] != code for attempt in read_manifest(run)["attempts"]):
            print(f"{run.folder}: trained by other code; trained again", flush=True)
        else:
            continue
        manifest.unlink()


if __name__ == "__main__":
    run_command(main)
