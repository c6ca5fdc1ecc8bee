"""Learning rates, momenta and loss weights over the iterations of a stage."""

import math

from fspkd.config.training import RateUntil

Schedule = tuple[RateUntil, ...]


def piece_at(schedule: Schedule, iteration: int) -> tuple[RateUntil, float]:
    """The piece of the schedule at an iteration, counted from 0, and the fraction of it that has passed, below 1.

    It is the first piece whose `until` the iteration has not reached. Raises IndexError beyond the last piece.
    """
    begin = 0
    for piece in schedule:
        if iteration < piece.until:
            return piece, (iteration - begin) / (piece.until - begin)
        begin = piece.until
    raise IndexError(f"iteration {iteration} of a schedule that ends at {begin}")


def learning_rate(schedule: Schedule, iteration: int) -> float:
    """The rate at an iteration, counted from 0."""
    piece, passed = piece_at(schedule, iteration)
    if piece.to is None:
        return piece.rate
    if piece.along == "exponential":
        return piece.rate * (piece.to / piece.rate) ** passed
    if piece.along == "cosine":
        return piece.to + (piece.rate - piece.to) * (1 + math.cos(math.pi * passed)) / 2
    return piece.rate + (piece.to - piece.rate) * passed


def momentum(schedule: Schedule, iteration: int, default: float) -> float:
    """The momentum at an iteration, counted from 0; the default if its piece names none."""
    piece, passed = piece_at(schedule, iteration)
    start = default if piece.momentum is None else piece.momentum
    return start if piece.momentum_to is None else start + (piece.momentum_to - start) * passed


def is_constant(schedule: Schedule) -> bool:
    """Whether rate and momentum change at the ends of pieces only."""
    return all(piece.to is None and piece.momentum_to is None for piece in schedule)


def next_milestone(schedule: Schedule, iteration: int) -> int:
    """The iteration at which the piece at `iteration` ends."""
    return piece_at(schedule, iteration)[0].until


def progress(schedule: Schedule, iteration: int) -> float:
    """How far the stage is: 0 at its first iteration, 1 at its last."""
    last = schedule[-1].until - 1
    return iteration / last if last else 0.0
