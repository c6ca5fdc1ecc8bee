"""Pack a data set, or pretrained weights, into the one file that is read later, and print what it holds."""

from collections.abc import Callable, Iterable

from fspkd.data.packed import save_packed
from fspkd.data.sets import DataSet, PretrainedWeights
from fspkd.data.sources import prepared, read_images

LARGE = 2**30  # bytes


def pack(packed: DataSet | PretrainedWeights, size_checks: Iterable[Callable[[tuple[int, int]], object]]) -> None:
    """Write the packed file of a data set or of pretrained weights.

    `size_checks` are called with the images' height and width before anything is written. Raises UserError as they do, and
    if the source is missing, damaged or not what the preset pins.
    """
    if isinstance(packed, DataSet):
        _pack_images(packed, size_checks)
    else:
        from fspkd.data.pretrained import pack_weights  # only here: it imports torch, which takes seconds

        print(f"packed {packed.settings.weights} into {pack_weights(packed)}")


def _pack_images(data: DataSet, size_checks: Iterable[Callable[[tuple[int, int]], object]]) -> None:
    raw = read_images(data)
    images = prepared(raw, data)
    for check in size_checks:
        check(images.images["train"].shape[1:3])
    save_packed(images, data.path)
    for split, of_split in images.images.items():
        print(
            f"{split}: {len(of_split)} images of {of_split.shape[1:]}, {len(images.classes)} classes, from {images.source}"
        )
    if (size := sum(of_split.nbytes for of_split in images.images.values())) > LARGE:
        print(
            f"{size / LARGE:.1f} GB of images: a training job needs twice as much memory while it starts, and more if they are "
            f"padded"
        )
    if data.settings.sha256 is None and data.settings.source == "imagefolder":
        print(
            f"sha256: {raw.sha256}\nThat line, added to the preset's data set {data.settings.name!r}, pins these images: they "
            f"may then be anywhere, and others are refused. Add it before training: adding it later makes nets train again."
        )
