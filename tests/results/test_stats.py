"""Intervals against simulations whose truth is known, and against scipy's bootstrap."""

import numpy as np
import pytest
from scipy import stats

from fspkd.results.claims import verdict
from fspkd.results.stats import Estimate, over_seeds, over_seeds_and_images, ratio

TRUTH = 0.02  # by which the first method is right more often


def draw(random: np.random.Generator, seeds: int, images: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether nets of two methods are right about the same images: of different difficulty, for nets of different luck."""
    difficulty = 0.7 + 0.2 * np.tanh(random.normal(1, 1, images))
    gain = random.normal(TRUTH, 0.05, images)  # one method helps with some images more than with others

    def nets(probability: np.ndarray) -> np.ndarray:
        luck = random.normal(0, spread, (seeds, 1))
        return (random.random((seeds, images)) < np.clip(probability + luck, 0, 1)).astype(float)

    return nets(difficulty + gain), nets(difficulty)


@pytest.mark.parametrize(
    ("seeds", "images", "spread", "paired"),
    [
        (3, 1000, 0.003, False),
        (3, 1000, 0.01, False),
        (5, 1000, 0.005, True),
        (10, 500, 0.01, True),
        (1, 1000, 0, True),
    ],
)
def test_intervals_cover_a_known_difference(seeds: int, images: int, spread: float, paired: bool) -> None:
    random = np.random.default_rng(2017)
    covered = 0
    for _ in range(2000):
        first, second = draw(random, seeds, images, spread)
        estimate = over_seeds_and_images([first - second] if paired else [first, -second])
        covered += estimate.low <= TRUTH <= estimate.high
    assert 0.93 <= covered / 2000 <= 0.97


def test_bootstrap_percentiles_over_three_seeds_cover_too_little() -> None:
    """Why the intervals are not those."""
    random = np.random.default_rng(2017)
    values = random.normal(0, 1, (400, 3))
    intervals = [stats.bootstrap([v], np.mean, n_resamples=500, method="percentile", rng=random) for v in values]
    covered = np.mean([i.confidence_interval.low <= 0 <= i.confidence_interval.high for i in intervals])
    assert covered < 0.85
    student = [over_seeds(v) for v in values]
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e in student]) <= 0.97


def test_standard_error_is_that_of_scipys_paired_bootstrap_over_images() -> None:
    first, second = draw(np.random.default_rng(1), 1, 2000, 0.0)

    def difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.mean(axis) - b.mean(axis)

    bootstrap = stats.bootstrap([first[0], second[0]], difference, paired=True, n_resamples=3000, rng=1)
    estimate = over_seeds_and_images([first - second])
    assert estimate.value == pytest.approx(difference(first[0], second[0]))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * bootstrap.standard_error, rel=0.05)


def test_order_of_images_and_seeds_does_not_matter() -> None:
    first, second = draw(np.random.default_rng(1), 3, 400, 0.01)
    images, seeds = np.random.default_rng(2).permutation(400), [2, 0, 1]
    one, other = (
        over_seeds_and_images([first, -second]),
        over_seeds_and_images([first[seeds][:, images], -second[:, images]]),
    )
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_equal_methods_differ_by_nothing() -> None:
    first, _ = draw(np.random.default_rng(1), 3, 400, 0.01)
    assert over_seeds_and_images([first - first]) == Estimate(0, 0, 0, 3)


def test_ratio_has_the_interval_of_welchs_test_on_logarithms() -> None:
    over, under = [300, 330, 290], [100, 95, 115]
    estimate = ratio(over, under)
    assert estimate.value == pytest.approx(np.exp(np.mean(np.log(over)) - np.mean(np.log(under))))
    interval = stats.ttest_ind(np.log(over), np.log(under), equal_var=False).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert np.isnan(ratio([3], [1]).low)


def test_verdicts_flip_where_the_interval_leaves_the_threshold() -> None:
    assert verdict(Estimate(1, 0.1, 2, 3), 0) == "reproduced"
    assert verdict(Estimate(1, 0.1, 2, 3), 0.2) == "undecided at n = 3"
    assert verdict(Estimate(1, 0.1, 2, 3), 2.1) == "not reproduced"
    assert verdict(Estimate(1, 0.1, 2, 1), 0) == "undecided at n = 1"
    assert verdict(Estimate(1, np.nan, np.nan, 1), 0) == "undecided at n = 1"


def test_verdicts_on_simulated_rows_follow_their_difference() -> None:
    random = np.random.default_rng(7)
    verdicts = {"up": [], "down": [], "none": []}
    for _ in range(200):
        first, second = draw(random, 5, 5000, 0.002)
        verdicts["up"].append(verdict(over_seeds_and_images([first - second]), 0))
        verdicts["down"].append(verdict(over_seeds_and_images([second - first]), 0))
        verdicts["none"].append(verdict(over_seeds_and_images([first - second]), TRUTH))
    assert verdicts["up"].count("reproduced") > 190
    assert verdicts["down"].count("not reproduced") > 190
    assert verdicts["none"].count("undecided at n = 5") > 180
