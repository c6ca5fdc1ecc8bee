"""Confidence intervals and p-values over seeds and test images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % confidence interval, from `n` independent seeds on the side with fewer.

    `seeds` and `images` are the two parts of the squared standard error, on the logarithmic scale if `is_ratio`. The seeds'
    part has at least `df` degrees of freedom; the images' part, from many images, counts as known.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: float = np.nan
    df: float = np.nan
    images: float = 0.0
    is_ratio: bool = False

    def p_value(self, threshold: float) -> float:
        """Two-sided, for the hypothesis that the true value is the threshold; NaN for a single seed."""
        distance = np.log(self.value / threshold) if self.is_ratio else self.value - threshold
        return self._beyond(abs(distance))

    def p_value_of_margin(self, margin: float) -> float:
        """For the hypothesis that the true value is as far from 0 as the margin: two one-sided tests, each counted twice.

        Below 1 - CONFIDENCE where the value is surely within the margin, or surely beyond it.
        """
        return self._beyond(abs(margin - abs(self.value)))

    def _beyond(self, distance: float) -> float:
        """The probability that an estimate is farther from the truth than a distance.

        Not by Student's distribution with Welch and Satterthwaite's degrees of freedom, whose tails are too light where
        images have a part, and where two rows spread unequally; hence the smaller row's degrees of freedom.
        """
        if self.seeds + self.images == 0:  # nothing says how values spread
            return 1.0 if distance == 0 else np.nan
        if self.n < 2 or not np.isfinite(self.seeds):
            return np.nan
        return float(farther(distance, self.seeds, self.df, self.images))


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)  # without seeds


def farther(distance: np.ndarray | float, seeds: np.ndarray | float, df: float, images: np.ndarray | float) -> Any:
    """The probability that the sum of two parts is farther from 0 than a distance; arrays are broadcast.

    The seeds' part has Student's distribution with `df` degrees of freedom, the images' part a normal one; `seeds` and
    `images` are their squared standard errors. Given the seeds' variance both are normal, and so is their sum; this is
    integrated over that variance by the trapezoidal rule, where any ratio of the two parts gives a smooth integrand.
    """
    # y^2 is half of a chi-squared variable.
    log_y = np.linspace(-40 / df, 3 + np.log(df) / 2, 200 + 10 * round(np.sqrt(df)))
    log_weights = df * log_y - np.exp(2 * log_y)
    weights = np.exp(log_weights - log_weights.max())
    variance = np.asarray(images)[..., None] + np.asarray(seeds)[..., None] * df / 2 * np.exp(-2 * log_y)
    tails = special.ndtr(-np.asarray(distance)[..., None] / np.sqrt(variance))
    return 2 * tails @ weights / weights.sum()


def _student(df: Any) -> Any:
    """Half the width of Student's interval, in standard errors; arrays of degrees of freedom give arrays."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, df)


def over_seeds(values: Sequence[float]) -> Estimate:
    """The mean of independent values, with Student's interval, or none for a single value."""
    values = np.asarray(values, float)
    n, mean = len(values), values.mean()
    if n < 2:
        return Estimate(mean, np.nan, np.nan, n)
    variance = values.var(ddof=1)
    half = mean_half_width(variance, n - 1, n)
    return Estimate(mean, mean - half, mean + half, n, variance / n, n - 1)


def median(values: Sequence[float], threshold: float) -> tuple[Estimate, float]:
    """The median of independent values, and the p-value of a two-sided sign test of the hypothesis that it is the threshold.

    Neither assumes anything about the spread. The interval's ends are two of the values. With fewer than six values, too
    few for an interval or a p-value below 1 - CONFIDENCE, both are NaN.
    """
    if 2 * 0.5 ** len(values) >= 1 - CONFIDENCE:
        return Estimate(float(np.median(values)), np.nan, np.nan, len(values)), np.nan
    test = stats.quantile_test(values, q=threshold, p=0.5)
    interval = test.confidence_interval(CONFIDENCE)
    estimate = Estimate(float(np.median(values)), float(interval.low), float(interval.high), len(values))
    return estimate, float(test.pvalue)


def within_groups(groups: Iterable[Sequence[float]]) -> tuple[float, int]:
    """The variance within groups, assumed equal and pooled over them, and its degrees of freedom.

    It is the within-group mean square of a one-way analysis of variance; NaN and 0 where no group has two values.
    """
    groups = [np.asarray(values, float) for values in groups]
    freedom = sum(max(len(values) - 1, 0) for values in groups)
    squares = sum(((values - values.mean()) ** 2).sum() for values in groups if len(values))
    return (squares / freedom if freedom else np.nan), freedom


def mean_half_width(variance: float, freedom: int, n: int) -> float:
    """Half of Student's interval for the mean of n values; NaN if n or the degrees of freedom of their variance are 0."""
    return _student(freedom) * np.sqrt(variance / n) if n and freedom else np.nan


def over_seeds_and_images(terms: Sequence[np.ndarray]) -> Estimate:
    """The sum of the means of matrices (seeds, images), with an interval for other seeds and other images.

    All matrices have the same images in the same order; seeds are independent within a matrix and between matrices.
    So a paired difference of two methods is one matrix of differences, an unpaired one is [first, -second].

    The squared standard error is that of the seeds' means, as in a t-test, plus what images add: the spread over images
    of their means over seeds, less what a seed's luck with an image contributes to both. With a single seed of a
    method the interval is for other images only.
    """
    count = terms[0].shape[1]
    value = float(sum(term.mean() for term in terms))
    images = np.var(sum(term.mean(0) for term in terms), ddof=1) / count
    n = min(map(len, terms))
    if n < 2:
        half = _student(count - 1) * np.sqrt(images)
        return Estimate(value, value - half, value + half, n)
    for term in terms:
        luck = term - term.mean(1, keepdims=True) - term.mean(0) + term.mean()
        images -= (luck**2).sum() / ((len(term) - 1) * (count - 1)) / count / len(term)
    images = max(float(images), 0.0)
    parts = np.array([np.var(term.mean(1), ddof=1) / len(term) for term in terms])
    degrees = np.array([len(term) - 1 for term in terms])
    half = half_width(parts, degrees, images)
    return Estimate(value, value - half, value + half, n, parts.sum(), degrees.min(), images)


def half_width(parts: np.ndarray, degrees: np.ndarray, images: np.ndarray | float) -> Any:
    """Half the width of the interval of a sum whose parts' squared standard errors have these degrees of freedom.

    Parts lie along the first axis: one sum gives a number, several give an array. What images add counts half in the
    degrees of freedom: counted in full, it makes intervals over three seeds too short whenever the seeds happen to agree.
    docs/statistics.md has the simulations.
    """
    square = parts.sum(0) + images
    return _student(welch(parts, degrees, images / 2)) * np.sqrt(square)


def welch(parts: np.ndarray, degrees: np.ndarray, known: np.ndarray | float) -> Any:
    """Welch and Satterthwaite's degrees of freedom of a sum of squared standard errors; infinite if only `known` is not 0."""
    spread = (parts**2 / degrees.reshape(-1, *[1] * (parts.ndim - 1))).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, (parts.sum(0) + known) ** 2 / spread, np.inf)


def ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """The ratio of the geometric means of two groups of independent values, with Welch's interval of its logarithm."""
    logs = [np.log(np.asarray(values, float)) for values in (over, under)]
    n = min(map(len, logs))
    if n == 0:
        return NOTHING
    value = np.exp(logs[0].mean() - logs[1].mean())
    if n == 1:
        return Estimate(value, np.nan, np.nan, 1, is_ratio=True)
    test = stats.ttest_ind(*logs, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    seeds = sum(np.var(values, ddof=1) / len(values) for values in logs)
    low, high = np.exp([interval.low, interval.high])
    return Estimate(value, low, high, n, seeds, n - 1, is_ratio=True)


def geometric_mean(values: Sequence[float]) -> Estimate:
    """The geometric mean of independent positive values, with Student's interval of its logarithm."""
    logs = over_seeds(np.log(np.asarray(values, float)))
    value, low, high = np.exp([logs.value, logs.low, logs.high])
    return Estimate(value, low, high, logs.n, logs.seeds, logs.df, is_ratio=True)


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> Estimate:
    """The geometric mean of the ratios of pairs, with Student's interval of its logarithm."""
    return geometric_mean(np.asarray(over, float) / np.asarray(under, float))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: of families judged by them at 0.05, at most 5 % have a wrong verdict. NaN stays NaN."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]
    adjusted = np.full(len(p_values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted
