"""Nets by their depth: the points of a figure of kind `depth`, measured and published. Draws nothing."""

from functools import cache
from typing import NamedTuple, cast

import pandas as pd

from fspkd.config.load import CONFIG
from fspkd.config.results import Depth
from fspkd.networks.network import Network
from fspkd.plan import Plan
from fspkd.report.labelled import read_labelled
from fspkd.report.predictions import correct_by_image, needed_to_learn
from fspkd.settings import row_of


class Point(NamedTuple):
    """Where a row stands in a figure."""

    panel: str
    method: str
    layers: int


def points(plan: Plan, name: str) -> dict[str, Point]:
    """Where each row, or net of one, that a figure names stands, in its order."""
    preset = plan.preset
    return {
        nets: Point(panel, method, preset.networks[preset.rows[row_of(nets)].network].layer_count)
        for panel, methods in cast(Depth, preset.figures[name]).panels.items()
        for method, rows in methods.items()
        for nets in rows
    }


def published_points(plan: Plan, name: str) -> dict[Point, float]:
    """The published accuracies of a figure, in percent."""
    reference = cast(Depth, plan.preset.figures[name]).reference
    if reference is None:
        return {}
    frame = read_labelled(CONFIG / reference)
    return {Point(*where): accuracy for *where, accuracy in frame[[*Point._fields, "accuracy"]].itertuples(index=False)}


def measured_points(plan: Plan, name: str) -> pd.DataFrame:
    """The finished nets of a figure.

    Columns: panel, method, layers, multiplications (for one image), net, accuracy (in percent), learned, published (of
    the point).
    """
    published = published_points(plan, name)
    lines = []
    for reference, point in points(plan, name).items():
        for net in plan.nets(reference):
            if not net.folder.is_finished:
                continue
            images = net.folder.read_manifest().images
            accuracy = 100 * correct_by_image([net])[0].mean()
            multiplications = _multiplications(net.spec.network, images.shape, len(images.classes))
            learned = accuracy >= needed_to_learn(net)
            lines.append((*point, multiplications, net.id, accuracy, learned, published.get(point)))
    columns = [*Point._fields, "multiplications", "net", "accuracy", "learned", "published"]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype({"published": float})


@cache
def _multiplications(network: Network, shape: tuple[int, int, int], classes: int) -> int:
    from fspkd.models.counts import counts  # imports torch, which takes seconds

    return counts(network, shape, classes).multiplications
