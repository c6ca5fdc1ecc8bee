"""What a preset may say about training: schedules, optimizers, and what every stage shares.

Declare a new setting here as `X | None = None`, where None means what was done before: it is left out of what names runs.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fspkd.settings import NotEmptyTuple, PositiveInt, PositiveReal, Real, Settings

Fraction = Annotated[Real, Field(ge=0, lt=1)]


class RateUntil(Settings):
    """A learning rate, used until (but not at) an iteration counted from the start of the stage."""

    until: PositiveInt
    """the first iteration that does not use it"""
    rate: PositiveReal
    """the learning rate"""
    to: Annotated[Real, Field(ge=0)] | None = None
    """the learning rate that would be reached at `until`, if it changes from iteration to iteration"""
    along: Literal["line", "exponential", "cosine"] | None = None
    """how it changes: on a straight line, which is the default; by the same factor each iteration; or along half a period of
    a cosine"""
    momentum: Fraction | None = None
    """instead of the optimizer's"""
    momentum_to: Fraction | None = None
    """the momentum that would be reached at `until`, if it changes, on a straight line"""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.along == "exponential" and self.to == 0:
            raise ValueError("to = 0 is never reached by a constant factor. Give a number above 0, or another `along`")
        return self


Schedule = Annotated[tuple[RateUntil, ...], *NotEmptyTuple]


def divided(schedule: Schedule, by: int) -> Schedule:
    """A schedule with its iterations divided by `by`, rounded to whole ones."""
    return tuple(piece.model_copy(update={"until": _part(piece.until, by)}) for piece in schedule)


def _part(iterations: int, by: int) -> int:
    return (2 * iterations + by) // (2 * by)


class BySchedule(Settings):
    """A stage ends when its schedule does, and keeps the parameters of its last iteration."""

    by: Literal["schedule"]
    """what ends a stage"""


class ByValidation(Settings):
    """A stage ends when the validation images of its data set have shown no improvement for some time.

    It ends with its schedule at the latest, and keeps the best parameters. The criterion is the error in a last stage and the
    loss in a first one, never on test images. Learning rates and loss weights still follow the schedule.
    """

    by: Literal["validation"]
    """what ends a stage"""
    patience: PositiveInt
    """iterations without improvement after which a stage ends; divided like the schedules"""
    every: PositiveInt | None = None
    """iterations between measurements on the validation images, divided likewise; by default `training.evaluate_every`,
    which is not divided. There is one at the end of the schedule too"""


Stop = Annotated[BySchedule | ByValidation, Field(discriminator="by")]


def divided_stop(stop: Stop | None, by: int, evaluate_every: int | None) -> ByValidation | None:
    """What ends the stages of rows whose iterations are divided; None if it is their schedules.

    Patience and interval are at least one iteration. The interval is set, unless `evaluate_every` is None too.
    """
    if not isinstance(stop, ByValidation):
        return None
    every = evaluate_every if stop.every is None else max(1, _part(stop.every, by))
    return stop.model_copy(update={"patience": max(1, _part(stop.patience, by)), "every": every})


class _Optimizer(Settings):
    """What all optimizers' settings have."""

    follows_momentum: ClassVar[bool] = False
    """whether a schedule may set the momentum"""


class Sgd(_Optimizer):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD."""

    algorithm: Literal["sgd"]
    """how weights are updated"""
    momentum: Fraction
    """the fraction of the last step that the next one keeps"""
    weight_decay: Annotated[Real, Field(ge=0)]
    """the multiple of the weights that is added to their gradients"""
    decay_batchnorm: bool
    """whether weight decay applies to batch norm's scales and shifts"""
    nesterov: Literal[True] | None = None
    """Nesterov's momentum"""

    @model_validator(mode="after")
    def _with_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov = true and momentum = 0. Give a momentum above 0, or leave nesterov out")
        return self


class HeavyBall(_Optimizer):
    """Stochastic gradient descent with classical momentum: v = momentum v - rate gradient, and v is added to the weights.

    With a constant rate and momentum it is what `sgd` does; if they change, the earlier steps in v keep their length.
    """

    follows_momentum: ClassVar[bool] = True
    algorithm: Literal["heavy_ball"]
    """how weights are updated"""
    momentum: Fraction
    """the fraction of the last step that the next one keeps; a schedule may override it"""


class Rmsprop(_Optimizer):
    """RMSProp with a floor: E = decay E + (1 - decay) gradient^2, from E = 0; a step is rate gradient / max(sqrt(E), floor)."""

    algorithm: Literal["rmsprop"]
    """how weights are updated"""
    decay: Fraction = 0.9
    """the fraction of the last mean square that the next one keeps"""
    floor: PositiveReal = 1e-5
    """the smallest number that a gradient is divided by"""


OptimizerSettings = Annotated[Sgd | HeavyBall | Rmsprop, Field(discriminator="algorithm")]


class Training(Settings):
    """What every stage shares."""

    batch_size: PositiveInt
    """images per iteration"""
    precision: Literal["float32", "bfloat16"] = "float32"
    """of convolutions and activations; losses, FSP matrices, weights and their updates are always float32"""
    evaluate_every: PositiveInt | None
    """iterations between measurements of the test accuracy; null is for the runs of first stages, which are not tested"""
    optimizer: OptimizerSettings
    """what updates the weights"""
    stop: Stop | None = None
    """what ends a stage, if not its schedule"""
