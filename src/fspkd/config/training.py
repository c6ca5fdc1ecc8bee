"""What a preset may say about training: schedules, optimizers, and what every stage shares.

A setting that is added here is `X | None = None`, where None means what was done before: it is left out of what names runs.
"""

from typing import Annotated, Literal

from pydantic import Field

from fspkd.settings import NotEmptyTuple, PositiveInt, PositiveReal, Real, Settings


class RateUntil(Settings):
    """A learning rate, used until (and not at) an iteration counted from the start of the stage."""

    until: PositiveInt
    """the first iteration that does not use it"""
    rate: PositiveReal
    """the learning rate"""


Schedule = Annotated[tuple[RateUntil, ...], *NotEmptyTuple]


class Sgd(Settings):
    """Stochastic gradient descent with momentum, as torch.optim.SGD does it."""

    algorithm: Literal["sgd"]
    """how weights are updated"""
    momentum: Annotated[Real, Field(ge=0, lt=1)]
    """the part of the last step that the next one keeps"""
    weight_decay: Annotated[Real, Field(ge=0)]
    """the multiple of the weights that is added to their gradients"""
    decay_batchnorm: bool
    """whether weight decay reaches batch norm's scales and shifts"""


OptimizerSettings = Sgd


class Training(Settings):
    """What every stage shares."""

    batch_size: PositiveInt
    """images of an iteration"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of convolutions and activations; losses, FSP matrices, weights and their updates are float32 always"""
    evaluate_every: PositiveInt | None
    """iterations between measurements of the test accuracy; first stages, which have none, note null"""
    optimizer: OptimizerSettings
    """what updates the weights"""
