"""Nets built from the files in run folders."""

from fspkd.engine import start
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.models.net import Net
from fspkd.runs.spec import Run
from fspkd.weights import load_weights


def initial_net(run: Run, images: Images) -> Net:
    """The net that a run trains, as it is at its start; raises UserError where the weights that it starts from do not fit."""
    state = load_weights(run.start.weights, run.start.id) if run.start else None
    try:
        return start.initial_net(run.spec, images, state, run.is_transfer)
    except RuntimeError as misfit:
        raise UserError(
            f"run {run.id}: the weights of {run.start.id} do not fit images of {images.channels} channels: {misfit}. "
            f"Start from weights that were trained on such images."
        ) from None


def finished_net(run: Run, shape: tuple[int, int, int], classes: int) -> Net:
    """The net that a finished run has trained, for images of that shape (C, H, W) and number of classes."""
    net = build(run.spec.network, shape, classes, None)
    net.load_state_dict(load_weights(run.weights, run.id))
    return net
