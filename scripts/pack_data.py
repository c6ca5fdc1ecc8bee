#!/usr/bin/env python
"""Pack a data set that a preset names into one file: python scripts/pack_data.py data/packed/digits/0123456789.npz

FSPKD_DATA_<NAME> in the environment says where the images of data set <NAME> lie on this machine.
"""

import argparse
from pathlib import Path

from fspkd.data.packed import save_packed
from fspkd.data.sources import prepared, read_images
from fspkd.errors import run_command
from fspkd.plan import load_plans, not_found
from fspkd.result import wanted_by_results
from fspkd.settings import suggest

LARGE = 2**30  # bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="the packed file; its name says which data set")
    args = parser.parse_args()
    plans, problems = load_plans()
    sets = {data.path: data for plan in plans.values() for data in plan.data.values()}
    if args.output not in sets:
        message = f"{args.output}: no preset in config/ has such a data set{suggest(str(args.output), sets)}"
        raise not_found(message, problems)
    data = sets[args.output]
    packed = read_images(data)
    pin = packed.sha256
    packed = prepared(packed, data)
    for run in [run for plan in plans.values() for run in wanted_by_results(plan) if run.data.path == args.output]:
        run.check_size(packed.images["train"].shape[1:3])  # now, and not when its teacher has been trained for hours
    save_packed(packed, args.output)
    for split, images in packed.images.items():
        print(
            f"{split}: {len(images)} images of {images.shape[1:]}, {len(packed.classes)} classes, from {packed.source}"
        )
    if (size := sum(images.nbytes for images in packed.images.values())) > LARGE:
        print(f"{size / LARGE:.1f} GB: a training job takes twice as much while it begins, more where they are padded")
    if data.settings.sha256 is None and data.settings.source == "imagefolder":
        print(
            f"sha256: {pin}\nThat line in the preset's data set {data.settings.name!r} pins these images: then they may lie "
            f"anywhere, and others are refused. Nets are trained anew once it is added, so add it before."
        )


if __name__ == "__main__":
    run_command(main)
