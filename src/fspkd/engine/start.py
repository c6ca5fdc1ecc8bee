"""The net that training starts from."""

from torch import Tensor

from fspkd.engine.batches import Images
from fspkd.models import build
from fspkd.models.net import Net
from fspkd.runs.spec import RunSpec


def initial_net(spec: RunSpec, images: Images, state: dict[str, Tensor] | None, transfer: bool) -> Net:
    """A net initialised from the run's seed, or with given weights; a transfer takes all but the linear layer's.

    Raises RuntimeError if the weights do not fit.
    """
    net = build(spec.network, images.shape, images.classes, spec.draws.torch_generator("initialisation"))
    if state is not None:
        own = f"{net.classifier}."
        kept = {name: tensor for name, tensor in net.state_dict().items() if transfer and name.startswith(own)}
        net.load_state_dict({**state, **kept})
    return net
