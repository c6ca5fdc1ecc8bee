"""Learning rates, momenta and loss weights over the iterations of a stage."""

import math

from fspkd.config.training import RateUntil

Schedule = tuple[RateUntil, ...]


def phase_at(schedule: Schedule, iteration: int) -> tuple[RateUntil, float]:
    """The phase of an iteration, counted from 0, and how much of it has passed, from 0 up to, and not, 1.

    It is the first phase whose `until` the iteration has not reached. Raises StopIteration beyond the last phase.
    """
    begin = 0
    for phase in schedule:
        if iteration < phase.until:
            return phase, (iteration - begin) / (phase.until - begin)
        begin = phase.until
    raise StopIteration


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """The rate of an iteration, counted from 0."""
    phase, passed = phase_at(schedule, iteration)
    if phase.to is None:
        return phase.rate
    if phase.along == "exponential":
        return phase.rate * (phase.to / phase.rate) ** passed
    if phase.along == "cosine":
        return phase.to + (phase.rate - phase.to) * (1 + math.cos(math.pi * passed)) / 2
    return phase.rate + (phase.to - phase.rate) * passed


def momentum(schedule: Schedule, iteration: int, default: float) -> float:
    """The momentum of an iteration, counted from 0; the default where its phase names none."""
    phase, passed = phase_at(schedule, iteration)
    start = default if phase.momentum is None else phase.momentum
    return start if phase.momentum_to is None else start + (phase.momentum_to - start) * passed


def is_constant(schedule: Schedule) -> bool:
    """Whether rate and momentum change at the ends of phases only."""
    return all(phase.to is None and phase.momentum_to is None for phase in schedule)


def next_milestone(schedule: Schedule, iteration: int) -> int:
    """The iteration at which the phase of an iteration ends."""
    return phase_at(schedule, iteration)[0].until


def progress(schedule: Schedule, iteration: int) -> float:
    """How far the stage is: 0 at its first iteration, 1 at its last."""
    last = schedule[-1].until - 1
    return iteration / last if last else 0.0
