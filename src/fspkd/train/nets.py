"""Nets from what lies in the folders of runs."""

from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.models import build
from fspkd.models.net import Net
from fspkd.runs.spec import Run
from fspkd.weights import load_weights


def initial_net(run: Run, images: Images) -> Net:
    """A net of the run's kind, initialised from the run's seed, or with the weights that the run starts from.

    Of weights that were trained on other data the linear layer is left out. Raises UserError where they do not fit.
    """
    net = build(run.spec.network, images.channels, images.classes, run.spec.draws.torch_generator("initialisation"))
    if run.start:
        state = load_weights(run.start.weights, run.start.id)
        if run.is_transfer:
            own = f"{net.classifier}."
            state |= {name: tensor for name, tensor in net.state_dict().items() if name.startswith(own)}
        try:
            net.load_state_dict(state)
        except RuntimeError as misfit:
            raise UserError(
                f"run {run.id}: the weights of {run.start.id} do not fit images of {images.channels} channels: {misfit}. "
                f"Start from weights that were trained on such images."
            ) from None
    return net


def finished_net(run: Run, channels: int, classes: int) -> Net:
    """The net that a finished run has trained, for images of so many channels and classes."""
    net = build(run.spec.network, channels, classes, None)
    net.load_state_dict(load_weights(run.weights, run.id))
    return net
