"""Verdicts on claims: what the paper published, what came out here, how sure that is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from fspkd.config.load import CONFIG
from fspkd.config.results import (
    Claim,
    FigureClaim,
    InferenceTime,
    InferenceTimeClaim,
    LearningClaim,
    PointsClaim,
    RowsClaim,
    TimingClaim,
    TrainingTime,
)
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.pages import CLAIMS, shown, table_page
from fspkd.report.points import points, published_points
from fspkd.report.predictions import needed_to_learn
from fspkd.report.seeds import accuracies, differences, ratio_of_flat_parts
from fspkd.report.stats import (
    CONFIDENCE,
    NOTHING,
    Estimate,
    geometric_mean,
    holm,
    median,
    over_seeds_and_images,
    paired_ratio,
)
from fspkd.report.tables import in_markdown, read_published, read_reference
from fspkd.report.timings import read_timing
from fspkd.result import Result

UNITS = {"times": " times", "percent": " %"}  # as readers see them
NOTE = (
    "Intervals hold 95 % and are not adjusted for the number of claims. They are over seeds and test images; at n = 1, n being "
    "the number of independent seeds, over test images only; of times, over rounds. p is adjusted for all claims by Holm's "
    f"method: a claim is undecided where it is not below {1 - CONFIDENCE:g}, or where there are too few seeds for one. Whether "
    "nets learn is judged by their median."
)


def judge(plan: Plan) -> pd.DataFrame:
    """Judge a preset's claims: claim, where, compared, unit, published, ours, low, high, has_to_be, threshold, n, p, p_holm
    and verdict.

    Differences between rows are in percentage points; times and flat parts are ratios. `n` is the number of independent
    seeds; p-values are two-sided, and `p_holm` are adjusted for all claims of the preset.
    """
    judged = pd.DataFrame([_measured(plan, claim) for claim in plan.claims])
    judged["p_holm"] = holm(judged["p"])
    judged["verdict"] = [verdict(*row) for row in judged[["holds", "n", "p_holm"]].itertuples(index=False)]
    return judged.drop(columns="holds")


def verdict(holds: bool, n: int, p_value: float) -> str:
    """The verdict on a claim that holds for our value, or does not."""
    if n == 0:
        return "not run"
    if np.isnan(p_value) or p_value >= 1 - CONFIDENCE:
        return f"undecided at n = {n}"
    return "reproduced" if holds else "not reproduced"


class Measured(NamedTuple):
    """What came out for a claim."""

    unit: str
    published: float
    estimate: Estimate
    has_to_be: str
    threshold: float
    holds: bool
    """for our value"""
    p: float
    """of the hypothesis that the true value is the threshold"""

    @classmethod
    def above(cls, unit: str, published: float, estimate: Estimate, threshold: float) -> "Measured":
        """For a value that has to be above a threshold."""
        holds = estimate.value > threshold
        return cls(unit, published, estimate, "above", threshold, holds, estimate.p_value(threshold))


def _measured(plan: Plan, claim: Claim) -> dict[str, object]:
    measures: dict[type, Callable[..., Measured]] = {
        RowsClaim: _rows,
        PointsClaim: _points,
        LearningClaim: _learning,
        FigureClaim: _figure,
        TimingClaim: _timing,
        InferenceTimeClaim: _inference_time,
    }
    found = measures[type(claim)](plan, claim)
    return {
        "claim": claim.claim,
        "where": claim.where,
        "compared": _compared(claim),
        "unit": found.unit,
        "published": found.published,
        "ours": found.estimate.value,
        "low": found.estimate.low,
        "high": found.estimate.high,
        "has_to_be": found.has_to_be,
        "threshold": found.threshold,
        "n": found.estimate.n,
        "p": found.p,
        "holds": found.holds,
    }


def _compared(claim: Claim) -> str:
    """What its numbers are of: its settings, in one line."""
    settings = claim.model_dump(exclude={"claim", "where"}, exclude_unset=True)
    return "; ".join(f"{key}: {value}" for key, value in settings.items())


def _rows(plan: Plan, claim: RowsClaim) -> Measured:
    tables = plan.preset.tables
    table = tables.get(claim.table) or cast(InferenceTime, plan.preset.timings[claim.table])
    published = np.nan
    if table.reference:
        numbers = read_reference(plan, claim.table) if claim.table in tables else read_published(table.reference)
        numbers = numbers.reindex(columns=["accuracy", "average", "ensemble", "error"])
        numbers["gain"] = numbers["ensemble"] - numbers["average"]
        values = numbers[claim.value].reindex([claim.more, claim.less])  # NaN where nothing is published
        published = values[claim.more] - values[claim.less]
    more, less = table.rows[claim.more], table.rows[claim.less]
    # Higher error is lower accuracy, so rows swap.
    sides = ("accuracy", less, more) if claim.value == "error" else (claim.value, more, less)
    return _difference(claim, published, differences(plan, *sides))


def _points(plan: Plan, claim: PointsClaim) -> Measured:
    published = claim.published
    if published is None:
        where, numbers = points(plan, claim.figure), published_points(plan, claim.figure)
        more, less = (numbers.get(where[row], np.nan) for row in (claim.more, claim.less))
        published = more - less
    return _difference(claim, published, differences(plan, "accuracy", claim.more, claim.less))


def _difference(claim: RowsClaim | PointsClaim, published: float, terms: list[np.ndarray]) -> Measured:
    """For a difference that is the sum of the means of matrices, as from `differences`."""
    estimate = over_seeds_and_images([100 * term for term in terms]) if terms else NOTHING
    unit = "percentage points"
    if claim.within is None:
        return Measured.above(unit, published, estimate, claim.more_than)
    holds, p_value = abs(estimate.value) < claim.within, estimate.p_value_of_margin(claim.within)
    return Measured(unit, published, estimate, "within", claim.within, holds, p_value)


def _learning(plan: Plan, claim: LearningClaim) -> Measured:
    """For the row that is farthest from what is claimed.

    The claim holds if the median net of every row does what is claimed; its p-value is then the highest of the rows'. It
    does not hold if any row does otherwise; its p-value is then the lowest of such rows', times the number of all rows.
    """
    seeds = {row: accuracies(plan, row) for row in claim.nets}
    if not all(seeds.values()):
        return Measured("percent", np.nan, NOTHING, "at least" if claim.learn else "below", np.nan, False, np.nan)
    threshold = needed_to_learn(next(net for net in plan.nets(claim.nets[0]) if net.folder.is_finished))
    rows = {row: median(values, threshold) for row, values in seeds.items()}
    right = {row: (estimate.value >= threshold) == claim.learn for row, (estimate, _) in rows.items()}
    farthest = (min if claim.learn else max)(rows, key=lambda row: rows[row][0].value)
    p_values = pd.Series({row: p_value for row, (_, p_value) in rows.items()})
    if holds := all(right.values()):
        p_value = p_values.max(skipna=False)
    else:
        p_value = np.minimum(1, len(rows) * p_values[[row for row in rows if not right[row]]].min())
    published = published_points(plan, claim.figure).get(points(plan, claim.figure)[farthest], np.nan)
    estimate = replace(rows[farthest][0], n=min(map(len, seeds.values())))
    return Measured("percent", published, estimate, "at least" if claim.learn else "below", threshold, holds, p_value)


def _figure(plan: Plan, claim: FigureClaim) -> Measured:
    return Measured.above("times", claim.published, _later(plan, claim), claim.more_than)


def _later(plan: Plan, claim: FigureClaim) -> Estimate:
    path = Path(plan.preset.results) / f"{claim.figure}_flat.csv"
    if not path.exists():
        return NOTHING
    flat, curves = pd.read_csv(path), plan.curves(claim.figure)
    both = curves[claim.later], curves[claim.earlier]
    unfinished = {net.spec.replicate for nets in both for net in nets if not net.folder.is_finished}
    later, earlier = ([net for net in nets if net.spec.replicate not in unfinished] for nets in both)
    return ratio_of_flat_parts(later, earlier, flat[flat["measure"] == claim.measure])


def _timing(plan: Plan, claim: TimingClaim) -> Measured:
    settings = cast(TrainingTime, plan.preset.timings[claim.timing])
    reference = pd.read_csv(CONFIG / settings.reference).set_index("what")
    published = reference["value"][claim.what]
    rounds = _rounds(plan, claim)
    estimate = NOTHING if rounds is None else geometric_mean(rounds.loc[claim.what])
    return Measured.above("times", published, estimate, published * (1 - claim.tolerance))


def _inference_time(plan: Plan, claim: InferenceTimeClaim) -> Measured:
    settings = cast(InferenceTime, plan.preset.timings[claim.timing])
    than = claim.than or settings.teacher_label
    numbers = read_published(settings.reference).reindex(index=[claim.row, than], columns=["speed_up"])["speed_up"]
    published = numbers[claim.row] / numbers[than]  # each: teacher's time / own time
    rounds = _rounds(plan, claim)
    estimate = NOTHING if rounds is None else paired_ratio(rounds.loc[than], rounds.loc[claim.row])
    return Measured.above("times", published, estimate, claim.more_than)


def _rounds(plan: Plan, claim: TimingClaim | InferenceTimeClaim) -> pd.DataFrame | None:
    """The value of each line in each round, which is a seed; None if nothing was measured.

    Raises UserError as read_timing does.
    """
    if not Path(Result(plan, "timing", claim.timing).file).exists():
        return None
    frame = read_timing(plan, claim.timing)
    return frame.set_index(frame.columns[0]).filter(regex=r"^round\d+$")


def shown_claims(frame: pd.DataFrame) -> pd.DataFrame:
    """Claims formatted for readers: a text per cell."""

    def with_unit(column: str) -> list[str]:
        pairs = zip(frame[column], frame["unit"], strict=True)
        return [shown(value) + UNITS.get(unit, "") * (value == value) for value, unit in pairs]

    asked = zip(frame["has_to_be"], frame["threshold"], strict=True)
    return pd.DataFrame(
        {
            "claim": frame["claim"],
            "verdict": frame["verdict"],
            "ours": with_unit("ours"),
            "95 % interval": [
                f"{shown(a)} to {shown(b)}" if a == a else "–" for a, b in zip(frame["low"], frame["high"], strict=True)
            ],
            "has to be": [f"{word} {'± ' if word == 'within' else ''}{shown(number)}" for word, number in asked],
            "p (Holm)": [f"{p:.2g}" if p == p else "–" for p in frame["p_holm"]],
            "published": with_unit("published"),
            "where": frame["where"],
        }
    )


def write(plan: Plan) -> Path:
    """Judge a preset's claims and write them as CSV, Markdown and HTML; returns the CSV's path."""
    if not plan.claims:
        raise UserError(
            f"preset {plan.preset.name!r}: has no claims. Name their file in it, such as claims: fsp/claims.yaml."
        )
    frame, csv, about = judge(plan), Path(Result(plan, "claims").file), plan.preset.about
    values = ["ours", "low", "high", "published", "threshold"]
    exact = frame.assign(**frame[values].astype(float).round(9))  # without what rounding leaves of a 0
    write_atomically(csv, exact.to_csv(index=False, float_format="%.6g").encode())
    title = f"{CLAIMS} (preset {plan.preset.name}; differences in percentage points)"
    safe = shown_claims(frame).map(in_markdown).to_markdown(index=False, disable_numparse=True)
    markdown = f"{in_markdown(f'{title}. {about}')}\n\n{safe}\n\n{NOTE}\n"
    write_atomically(csv.with_suffix(".md"), markdown.encode())
    kind = "texts claims demonstration" if plan.preset.demonstration else "texts claims"
    write_atomically(csv.with_suffix(".html"), table_page(title, shown_claims(frame), about, kind, [NOTE]))
    return csv
