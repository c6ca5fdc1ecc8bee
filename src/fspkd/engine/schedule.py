"""Learning rates and loss weights over the iterations of a stage."""

from fspkd.config.training import RateUntil


def learning_rate(schedule: tuple[RateUntil, ...], iteration: int) -> float:
    """The rate of an iteration, counted from 0: that of the first phase whose `until` it has not reached.

    Raises StopIteration beyond the last phase.
    """
    return next(phase.rate for phase in schedule if iteration < phase.until)


def next_milestone(schedule: tuple[RateUntil, ...], iteration: int) -> int:
    """The iteration at which the rate changes next, or the last phase's end."""
    return next(phase.until for phase in schedule if iteration < phase.until)


def progress(schedule: tuple[RateUntil, ...], iteration: int) -> float:
    """How far the stage is: 0 at its first iteration, 1 at its last."""
    last = schedule[-1].until - 1
    return iteration / last if last else 0.0
