"""Confidence intervals over seeds and test images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval, from `n` independent seeds on the side that has fewer."""

    value: float
    low: float
    high: float
    n: int


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with Student's interval; without one where there is a single value."""
    values = np.asarray(values, float)
    half = np.nan
    if len(values) > 1:
        half = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return Estimate(values.mean(), values.mean() - half, values.mean() + half, len(values))


def within_groups(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """The variance within groups that are equally spread, pooled over them, and its degrees of freedom.

    It is the mean square within of a one-way analysis of variance; NaN, and 0, where no group has two values.
    """
    groups = [np.asarray(values, float) for values in groups]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(((values - values.mean()) ** 2).sum() for values in groups)
    return (squares / freedom if freedom else np.nan), freedom


def half_width(variance: float, freedom: int, n: int) -> float:
    """Half of Student's interval for the mean of n values, from their variance and its degrees of freedom."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, freedom) * np.sqrt(variance / n)


def over_seeds_and_images(terms: Sequence[np.ndarray]) -> Estimate:
    """The sum of the means of matrices (seeds, images), with an interval for other seeds and other images.

    The images are the same in all matrices, in one order; the seeds of one are independent of each other and of another
    matrix's. So a paired difference of two methods is one matrix of differences, an unpaired one is [first, -second].

    The squared standard errors of a bootstrap over images and of one over seeds are added, and what both count, since a
    seed's luck with an image is in either, is taken off once. For means these have closed forms, used here, with n - 1 in
    place of n; Student's quantile is of Welch and Satterthwaite's degrees of freedom, the seeds' part weighed by the
    geometric mean of what was measured and what is left of it. In simulations 94 to 97 % of intervals cover the truth with
    three seeds a side, and as few as 91 % of those of three pairs; bootstrap percentiles over three seeds cover less.
    With a single seed the interval is for other images alone.
    """
    images = terms[0].shape[1]
    value = sum(term.mean() for term in terms)
    square = np.var(sum(term.mean(0) for term in terms), ddof=1) / images
    uncertainty = square**2 / (images - 1)
    for term in terms:
        seeds = len(term)
        if seeds > 1:
            measured = np.var(term.mean(1), ddof=1) / seeds
            rest = term - term.mean(1, keepdims=True) - term.mean(0) + term.mean()
            left = max(measured - (rest**2).sum() / ((seeds - 1) * (images - 1)) / images / seeds, 0.0)
            square += left
            uncertainty += measured * left / (seeds - 1)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, max(square**2 / uncertainty, 1)) * np.sqrt(square) if square else 0.0
    return Estimate(value, value - half, value + half, min(len(term) for term in terms))


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """The ratio of the geometric means of two groups of independent values, with Welch's interval of its logarithm.

    Values that are NaN are left out.
    """
    logs = [np.log(np.asarray(values, float)) for values in (over, under)]
    logs = [values[~np.isnan(values)] for values in logs]
    n = min(map(len, logs))
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    value = logs[0].mean() - logs[1].mean()
    half = np.nan
    if n > 1:
        half = value - stats.ttest_ind(*logs, equal_var=False).confidence_interval(CONFIDENCE).low
    return Estimate(*np.exp([value, value - half, value + half]), n)
