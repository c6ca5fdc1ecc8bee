"""Intervals against simulations whose truth is known, and against scipy's bootstrap."""

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from fspkd.report.claims import verdict
from fspkd.report.stats import (
    farther,
    half_width,
    holm,
    median,
    over_seeds,
    over_seeds_and_images,
    paired_ratio,
    ratio,
)

TRUTH = 0.02  # by which the first method is right more often


def draw(random: np.random.Generator, seeds: int, images: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether nets of two methods are right about the same images, which differ in difficulty, as nets do in luck."""
    difficulty = 0.7 + 0.2 * np.tanh(random.normal(1, 1, images))
    gain = random.normal(TRUTH, 0.05, images)  # one method helps with some images more than with others

    def nets(probability: np.ndarray) -> np.ndarray:
        luck = random.normal(0, spread, (seeds, 1))
        return (random.random((seeds, images)) < np.clip(probability + luck, 0, 1)).astype(float)

    return nets(difficulty + gain), nets(difficulty)


SHAPES = [  # as claims compare them: seeds, and whether they are pairs
    (3, True),  # replicates
    (5, True),
    (10, True),
    (3, False),  # three nets per row
    (9, False),  # three nets per row in three replicates
]


@pytest.mark.parametrize(
    ("seeds", "paired", "spread"),
    [(1, True, 0), *((*shape, spread) for shape in SHAPES for spread in (0, 0.003, 0.02))],
)
def test_intervals_cover_a_known_difference(seeds: int, paired: bool, spread: float) -> None:
    """For nets as similar as on a test set of 10,000, and for nets that are much less so."""
    random = np.random.default_rng(2017)
    covered = 0
    for _ in range(1000):
        first, second = draw(random, seeds, 500, spread)
        estimate = over_seeds_and_images([first - second] if paired else [first, -second])
        covered += estimate.low <= TRUTH <= estimate.high
    assert 0.93 <= covered / 1000 <= 0.975


@pytest.mark.parametrize(
    ("seeds", "spreads"),
    [(3, (1,)), (5, (1,)), (10, (1,)), *((n, (1, times)) for n in (3, 9) for times in (1, 3, 10))],
)
@pytest.mark.parametrize("images_part", [0, 0.1, 0.3, 1, 10])
def test_intervals_and_p_values_whatever_part_the_images_have(
    seeds: int, spreads: tuple[int, ...], images_part: float
) -> None:
    """They hold for pairs, and for two rows of equal spread or not, at any ratio of the images' variance to the seeds'.

    In 100,000 draws of seeds' means and of what images add to all of them, coverage is 93 to 97 %, and p-values are small
    no more often than they say, as far out as Holm's correction of 45 claims needs them. So at most 5 of 100 families of
    claims have a wrong verdict, however the claims depend on each other.
    """
    random, times = np.random.default_rng(5), 100_000
    scales = np.array(spreads)[:, None, None]
    means = scales * random.normal(0, 1, (len(spreads), times, seeds))
    images = images_part * float((scales**2).sum()) / seeds
    parts, degrees = means.var(2, ddof=1) / seeds, np.full(len(spreads), seeds - 1)
    value = means.mean(2).sum(0) + random.normal(0, np.sqrt(images), times)
    assert 0.93 <= (abs(value) <= half_width(parts, degrees, images)).mean() <= 0.97
    p_values = farther(abs(value), parts.sum(0), seeds - 1, images)
    for level in (0.05, 0.05 / 20, 0.05 / 45):
        allowed = level + 3 * np.sqrt(level * (1 - level) / times)
        assert (p_values < level).mean() <= allowed


@pytest.mark.parametrize("df", [1, 2, 4, 9, 100, 998])
@pytest.mark.parametrize(("seeds", "images"), [(1, 0), (1, 0.1), (1, 1), (0.1, 1), (0.01, 1), (1e-4, 1), (0, 1)])
def test_p_value_of_a_sum_is_that_of_adaptive_integration(df: int, seeds: float, images: float) -> None:
    """Also where nearly all is the images' part, so that the tail of the seeds' part is a step."""
    for distance in np.sqrt(seeds + images) * np.array([0, 0.5, 2, 3, 5]):
        if seeds == 0 or images == 0:
            tail = stats.norm.sf(distance / np.sqrt(images)) if images else stats.t.sf(distance / np.sqrt(seeds), df)
            assert farther(distance, seeds, df, images) == pytest.approx(2 * tail, rel=1e-6)
        else:
            width, step = np.sqrt(seeds / images), distance / np.sqrt(images)  # of the images' part, in standard errors

            def density(z: float, step: float = step, width: float = width) -> float:
                return stats.norm.pdf(z) * stats.t.sf((step - z) / width, df)

            points = np.clip([0, step - 5 * width, step, step + 5 * width], -8.9, 8.9)
            tail, _ = integrate.quad(density, -9, 9, points=np.unique(points), limit=500, epsabs=1e-12)
        assert farther(distance, seeds, df, images) == pytest.approx(2 * tail, rel=1e-4, abs=1e-8)


def test_p_value_of_an_estimate_is_of_the_smaller_rows_freedom() -> None:
    random = np.random.default_rng(1)
    many, few = (random.random((seeds, 300)) for seeds in (9, 3))
    estimate = over_seeds_and_images([many, -few])
    expected = farther(abs(estimate.value), estimate.seeds, 2, estimate.images)
    assert estimate.p_value(0) == pytest.approx(expected)
    assert estimate.seeds == pytest.approx(sum(rows.mean(1).var(ddof=1) / len(rows) for rows in (many, few)))


def test_standard_error_has_the_two_parts_that_were_put_in() -> None:
    """Seeds with a spread of 0.2, images with one of 3 that all seeds share, and noise of 2; averaged over many draws."""
    random = np.random.default_rng(3)
    estimates = []
    for _ in range(400):
        seeds, images = random.normal(0, 0.2, (4, 1)), random.normal(0, 3, 300)
        estimates.append(over_seeds_and_images([seeds + images + random.normal(0, 2, (4, 300))]))
    assert np.mean([e.seeds for e in estimates]) == pytest.approx(0.2**2 / 4 + 2**2 / 1200, rel=0.1)
    assert np.mean([e.images for e in estimates]) == pytest.approx(3**2 / 300, rel=0.05)


def test_holms_p_values_are_those_of_a_worked_example() -> None:
    """Four p-values, times 4, 3, 2 and 1 in rising order, and never falling."""
    adjusted = holm([0.01, 0.04, 0.03, 0.005, np.nan])
    assert adjusted[:4] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert np.isnan(adjusted[4])


@pytest.mark.parametrize(("seeds", "paired"), [(3, True), (5, True), (3, False)])
def test_simulated_nets_without_a_difference_have_small_p_values_as_rarely_as_they_say(
    seeds: int, paired: bool
) -> None:
    random, draws = np.random.default_rng(11), 4000
    p_values = []
    for _ in range(draws):
        first, second = draw(random, seeds, 200, 0.01)
        estimate = over_seeds_and_images([first - second] if paired else [first, -second])
        p_values.append(estimate.p_value(TRUTH))
    for level in (0.05, 0.05 / 20):
        assert np.mean(np.array(p_values) < level) <= level + 3 * np.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize("truth", [0.5, -0.5])
def test_a_difference_as_large_as_its_margin_is_called_small_in_at_most_5_of_200(truth: float) -> None:
    random, wrong = np.random.default_rng(13), 0
    for _ in range(4000):
        estimate = over_seeds(random.normal(truth, 0.2, 5))
        wrong += abs(estimate.value) < 0.5 and estimate.p_value_of_margin(0.5) < 0.05
    assert wrong / 4000 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 4000)


@pytest.mark.parametrize("spreads", [(0.1, 0.1), (0.1, 0.5)])
def test_ratios_equal_to_their_threshold_have_small_p_values_as_rarely_as_they_say(
    spreads: tuple[float, float],
) -> None:
    random, p_values, draws = np.random.default_rng(17), [], 1500
    for _ in range(draws):
        over, under = (
            np.exp(random.normal(mean, spread, 3)) for mean, spread in zip((np.log(2), 0), spreads, strict=True)
        )
        p_values.append(ratio(over, under).p_value(2))
    for level in (0.05, 0.05 / 20):
        assert np.mean(np.array(p_values) < level) <= level + 3 * np.sqrt(level * (1 - level) / draws)


@pytest.mark.parametrize(("shared", "covered"), [(1, 0.88), (4, 0.70)])
def test_nets_of_a_shared_first_stage_taken_as_seeds_would_cover_too_little(shared: float, covered: float) -> None:
    """Why such nets are one seed: in one row, what they share has `shared` times the variance of each net of both rows."""
    random, times = np.random.default_rng(19), 20_000
    means = random.normal(0, 1, (2, times, 3))
    means[0] += random.normal(0, np.sqrt(shared), (times, 1))
    half = half_width(means.var(2, ddof=1) / 3, np.full(2, 2), 0.0)
    assert (abs(means.mean(2).sum(0)) <= half).mean() == pytest.approx(covered, abs=0.01)


def test_margin_is_judged_by_two_one_sided_tests() -> None:
    """As by scipy, at both ends of the margin; the verdict needs the larger of the two p-values, doubled."""
    values = np.array([0.3, -0.1, 0.2, 0.25, 0.05])
    sides = [
        stats.ttest_1samp(values, -0.5, alternative="greater").pvalue,
        stats.ttest_1samp(values, 0.5, alternative="less").pvalue,
    ]
    # the farther side adds next to nothing
    assert over_seeds(values).p_value_of_margin(0.5) == pytest.approx(2 * max(sides), rel=0.02)
    assert over_seeds(values + 5).p_value_of_margin(0.5) < 0.01  # surely beyond it


def test_of_nets_that_learn_or_fail_the_median_is_judged_wrongly_in_at_most_5_of_100() -> None:
    """Where half of all nets fail, so that their median may be anywhere; a t-test is sure of three that happen to agree."""
    assert over_seeds([10.0, 10.1, 9.9]).p_value(20) < 1e-3  # one in eight triples of such nets all fail
    for n in (2, 3, 5, 6, 8, 11):
        wrong = 0.0
        for failed in range(n + 1):
            estimate, p_value = median([10.0] * failed + [80.0] * (n - failed), 20)
            times = stats.binom.pmf(failed, n, 0.5)
            assert np.isnan(p_value) == np.isnan(estimate.low) == (n < 6)
            if n >= 6:
                as_many = sum(stats.binom.pmf(k, n, 0.5) for k in range(n + 1) if abs(k - n / 2) >= abs(failed - n / 2))
                assert p_value == pytest.approx(as_many)
                assert (p_value < 0.05) == (not estimate.low <= 20 <= estimate.high)
                wrong += times * (p_value < 0.05)
        assert wrong <= 0.05
        assert (wrong > 0) == (n >= 6)


def test_p_value_is_students() -> None:
    values = np.array([0.3, -0.1, 0.2, 0.25, 0.05])
    assert over_seeds(values).p_value(0.05) == pytest.approx(stats.ttest_1samp(values, 0.05).pvalue, rel=1e-6)
    over, under = [300, 330, 290], [100, 95, 115]
    test = stats.ttest_ind(np.log(over), np.log(under) + np.log(2), equal_var=False)
    p_value = 2 * stats.t.sf(abs(test.statistic), 2)  # not Welch's degrees of freedom
    assert ratio(over, under).p_value(2) == pytest.approx(p_value, rel=1e-6)


def test_intervals_over_three_seeds_cover_the_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(2017)
    values = random.normal(0, 1, (400, 3))
    estimates = [over_seeds(v) for v in values]
    assert 0.93 <= np.mean([e.low <= 0 <= e.high for e in estimates]) <= 0.97


def test_one_seed_beside_three_has_the_interval_for_other_images() -> None:
    """The spread of three says nothing about the one: half an interval over seeds would be neither kind."""
    first, second = draw(np.random.default_rng(1), 3, 400, 0.05)
    estimate = over_seeds_and_images([first, -second[:1]])
    half = stats.t.ppf(0.975, 399) * (first.mean(0) - second[0]).std(ddof=1) / np.sqrt(400)
    assert (estimate.value - estimate.low, estimate.n) == (pytest.approx(half), 1)
    assert np.isnan(estimate.p_value(0))


def test_interval_of_seeds_that_agree_exactly_is_that_of_images() -> None:
    """As wide as the p-value says, not as Student's with two degrees of freedom."""
    random = np.random.default_rng(1)
    rows = np.array([random.permuted(np.repeat([1.0, 0.0], [20, 380])) + np.arange(400) / 400 for _ in range(3)])
    estimate = over_seeds_and_images([rows])
    assert estimate.seeds == pytest.approx(0, abs=1e-25)
    assert estimate.high - estimate.value == pytest.approx(1.96 * np.sqrt(estimate.images), rel=1e-3)
    assert estimate.p_value(estimate.high) == pytest.approx(0.05, rel=1e-3)


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
    estimate = over_seeds_and_images([first - first])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0, 0, 0, 3)
    assert estimate.p_value(0) == 1
    assert np.isnan(estimate.p_value(0.1))  # two curves that are flat from the same iteration decide nothing
    assert np.isnan(paired_ratio(pd.Series([2000, 2000]), pd.Series([2000, 2000])).p_value(2))


def test_ratio_has_the_interval_of_welchs_test_on_logarithms() -> None:
    over, under = [300, 330, 290], [100, 95, 115]
    estimate = ratio(over, under)
    assert estimate.value == pytest.approx(np.exp(np.mean(np.log(over)) - np.mean(np.log(under))))
    interval = stats.ttest_ind(np.log(over), np.log(under), equal_var=False).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert np.isnan(ratio([3], [1]).low)


def test_verdicts_need_a_small_p_value_and_say_which_side() -> None:
    assert verdict(True, 3, 0.049) == "reproduced"
    assert verdict(False, 3, 0.049) == "not reproduced"
    assert verdict(True, 3, 0.051) == "undecided at n = 3"
    assert verdict(True, 1, np.nan) == "undecided at n = 1"
    assert verdict(False, 0, np.nan) == "not run"


def test_power() -> None:
    """Among 20 claims, ten pairs detect over 90 %, and three pairs under half. docs/statistics.md has the figures."""
    random = np.random.default_rng(7)

    def found(seeds: int, spread: float) -> float:
        p_values = []
        for _ in range(100):
            first, second = draw(random, seeds, 5000, spread)
            p_values.append(over_seeds_and_images([first - second]).p_value(0))
        return np.mean(np.array(p_values) < 0.05 / 20)

    assert found(10, 0.002) > 0.9
    assert found(3, 0.002) < 0.5
