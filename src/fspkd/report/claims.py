"""Claims judged: what the paper published, what came out here, how sure that is."""

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
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import shown, table_page
from fspkd.report.points import points, published_points
from fspkd.report.predictions import correct_by_image, needed_to_learn
from fspkd.report.stats import (
    CONFIDENCE,
    Estimate,
    geometric_mean,
    holm,
    median,
    over_seeds_and_images,
    paired_ratio,
    ratio,
)
from fspkd.report.tables import in_markdown, read_published, read_reference
from fspkd.runs.spec import Run

UNITS = {"times": " times", "percent": " %"}  # as people read them
NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def judge(plan: Plan) -> pd.DataFrame:
    """The claims of a preset: claim, where, unit, published, ours, low, high, has_to_be, threshold, n, p, p_holm, verdict.

    Differences between rows are in percentage points; times and flat parts are ratios. `n` is the number of independent
    seeds; p-values are two-sided, `p_holm` those that are adjusted for all claims of the preset.
    """
    judged = pd.DataFrame([_measured(plan, claim) for claim in plan.claims])
    judged["p_holm"] = holm(judged["p"])
    judged["verdict"] = [verdict(*row) for row in judged[["holds", "n", "p_holm"]].itertuples(index=False)]
    return judged.drop(columns="holds")


def verdict(holds: bool, n: int, p_value: float) -> str:
    """What is said of a claim that holds for our value, or does not."""
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
        """Of a value that has to be above a threshold."""
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
    # Who is wrong more often is right less often.
    terms = _terms(plan, "accuracy", less, more) if claim.value == "error" else _terms(plan, claim.value, more, less)
    return _difference(claim, published, terms)


def _points(plan: Plan, claim: PointsClaim) -> Measured:
    published = claim.published
    if published is None:
        where, numbers = points(plan, claim.figure), published_points(plan, claim.figure)
        more, less = (numbers.get(where[row], np.nan) for row in (claim.more, claim.less))
        published = more - less
    return _difference(claim, published, _terms(plan, "accuracy", claim.more, claim.less))


def _difference(claim: RowsClaim | PointsClaim, published: float, terms: list[np.ndarray]) -> Measured:
    """Of a difference that is the sum of the means of matrices, as of _terms."""
    estimate = over_seeds_and_images([100 * term for term in terms]) if terms else NOTHING
    unit = "percentage points"
    if claim.within is None:
        return Measured.above(unit, published, estimate, claim.more_than)
    holds, p_value = abs(estimate.value) < claim.within, estimate.p_value_of_margin(claim.within)
    return Measured(unit, published, estimate, "within", claim.within, holds, p_value)


def _learning(plan: Plan, claim: LearningClaim) -> Measured:
    """Of the row that is the farthest from what is claimed.

    The claim holds where the median net of every row does what is claimed: its p-value is then the highest of the rows'. It
    does not hold where one does otherwise: its p-value is then the lowest of such rows', times the number of all rows.
    """
    seeds = {row: _accuracies(plan, row) for row in claim.nets}
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


def _accuracies(plan: Plan, row: str) -> list[float]:
    """The accuracies of independent seeds, in percent: of the nets of a row, or the means of its replicates where nets share
    anything trained. Replicates that are not finished are left out."""
    replicates = [plan.nets(row, r + 1) for r in range(plan.preset.replicates)]
    replicates = [nets for nets in replicates if all(net.folder.is_finished for net in nets)]
    single = [100 * correct_by_image(nets)[0].mean(1) for nets in replicates]
    if _independent([net for nets in replicates for net in nets]):
        return [accuracy for of_replicate in single for accuracy in of_replicate]
    return [of_replicate.mean() for of_replicate in single]


def _terms(plan: Plan, value: str, more: str, less: str) -> list[np.ndarray]:
    """A value's difference between two rows as matrices (independent seeds, images), whose means are to be added.

    A seed is a net, where what is compared is the accuracy of nets and no net of a row shares anything trained with
    another of it: paired with the only net of the other row that it shares something with, or unpaired where no net
    shares anything with the other row. Elsewhere a seed is a replicate, paired. Replicates that are not finished are left
    out.
    """
    pairs = [(plan.nets(more, r + 1), plan.nets(less, r + 1)) for r in range(plan.preset.replicates)]
    pairs = [pair for pair in pairs if all(net.folder.manifest.exists() for nets in pair for net in nets)]
    if not pairs:
        return []
    if value in ("accuracy", "average"):
        ours, theirs = ([net for pair in pairs for net in pair[side]] for side in (0, 1))
        if (partners := _partners(ours, theirs)) is not None:
            single = [np.concatenate([correct_by_image(pair[side])[0] for pair in pairs]) for side in (0, 1)]
            return [single[0] - single[1][partners]] if partners else [single[0], -single[1]]
    return [np.stack([_of_replicate(value, a) - _of_replicate(value, b) for a, b in pairs])]


def _partners(ours: list[Run], theirs: list[Run]) -> list[int] | None:
    """Of independent nets, the number of the only other one that each is related to; empty where none is to any.

    None where nets of one side share anything trained, or one is related to none or several of the other side.
    """
    if not (_independent(ours) and _independent(theirs)):
        return None
    shared = np.array([[_related(a, b) for b in theirs] for a in ours])
    if not shared.any():
        return []
    is_one_to_one = len(ours) == len(theirs) and (shared.sum(0) == 1).all() and (shared.sum(1) == 1).all()
    return list(shared.argmax(1)) if is_one_to_one else None


def _of_replicate(value: str, nets: list[Run]) -> np.ndarray:
    """A value of the nets of a row in one replicate, for each test image."""
    single, together = correct_by_image(nets)
    if value in ("accuracy", "average"):
        return single.mean(0)
    return together - (single.mean(0) if value == "gain" else 0)


def _related(one: Run, other: Run) -> bool:
    """Whether two nets share anything trained: one is, starts from or learns from what the other does."""
    return not one.ancestry.isdisjoint(other.ancestry)


def _independent(nets: list[Run]) -> bool:
    return not any(_related(one, other) for number, one in enumerate(nets) for other in nets[:number])


def _figure(plan: Plan, claim: FigureClaim) -> Measured:
    return Measured.above("times", claim.published, _later(plan, claim), claim.more_than)


def _later(plan: Plan, claim: FigureClaim) -> Estimate:
    path = Path(plan.preset.results) / f"{claim.figure}_flat.csv"
    if not path.exists():
        return NOTHING
    flat = pd.read_csv(path)
    nets = plan.curves(claim.figure)
    return ratio_of_flat_parts(nets[claim.later], nets[claim.earlier], flat[flat["measure"] == claim.measure])


def ratio_of_flat_parts(later: list[Run], earlier: list[Run], of_measure: pd.DataFrame) -> Estimate:
    """How many times later the nets of one curve become flat than those of another, by the flat parts of a measure.

    Seeds, and pairs of them, are those of _terms: nets, or the geometric means over those of each replicate.
    """
    flat = of_measure.drop_duplicates("net").set_index("net")["iteration"].dropna()
    later, earlier = ([net for net in nets if net.id in flat.index] for nets in (later, earlier))
    if partners := _partners(later, earlier):
        return paired_ratio(flat[[net.id for net in later]], flat[[earlier[partner].id for partner in partners]])
    if any(_related(one, other) for one in later for other in earlier):
        pairs = pd.DataFrame([_of_replicates(nets, flat) for nets in (later, earlier)]).dropna(axis=1)
        return paired_ratio(*pairs.to_numpy()) if len(pairs.columns) else NOTHING
    return ratio(*(_independent_flat_parts(nets, flat) for nets in (later, earlier)))


def _independent_flat_parts(nets: list[Run], flat: pd.Series) -> list[float]:
    """The iterations from which nets are flat or, where they share anything trained, the means over each replicate's."""
    return [flat[net.id] for net in nets] if _independent(nets) else list(_of_replicates(nets, flat))


def _of_replicates(nets: list[Run], flat: pd.Series) -> pd.Series:
    """The geometric mean over the nets of each replicate, by its number."""
    replicates = pd.Series({net.id: net.spec.replicate for net in nets}, dtype=int)
    return np.exp(np.log(flat[replicates.index]).groupby(replicates).mean())


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
    published = numbers[claim.row] / numbers[than]  # each is the teacher's by its own
    rounds = _rounds(plan, claim)
    estimate = NOTHING if rounds is None else paired_ratio(rounds.loc[than], rounds.loc[claim.row])
    return Measured.above("times", published, estimate, claim.more_than)


def _rounds(plan: Plan, claim: TimingClaim | InferenceTimeClaim) -> pd.DataFrame | None:
    """What was measured in each round, which is a seed, by line; None where nothing was measured.

    Raises UserError for a comparison without its rounds.
    """
    path = Path(plan.preset.results) / f"{claim.timing}.csv"
    if not path.exists():
        return None
    frame = read_labelled(path)
    rounds = frame.set_index(frame.columns[0]).filter(regex=r"^round\d+$")
    if rounds.empty:
        raise UserError(
            f"{path}: has no rounds, which say how sure the times are. Delete it, so that it is measured again."
        )
    return rounds


def shown_claims(frame: pd.DataFrame) -> pd.DataFrame:
    """Claims as people read them: a text a cell."""

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


def write_claims(plan: Plan, csv: Path) -> None:
    """Judge a preset's claims, and write them as CSV, and beside it as Markdown and HTML."""
    if not plan.claims:
        raise UserError(
            f"preset {plan.preset.name!r}: judges no claims. Name their file there, such as claims: fsp/claims.yaml."
        )
    frame = judge(plan)
    write_atomically(csv, frame.to_csv(index=False, float_format="%.4g").encode())
    title = f"What the paper claims, and what came out (preset {plan.preset.name}; differences in percentage points)"
    about = plan.preset.about
    safe = shown_claims(frame).map(in_markdown).to_markdown(index=False, disable_numparse=True)
    markdown = f"{in_markdown(f'{title}. {about}')}\n\n{safe}\n"
    write_atomically(csv.with_suffix(".md"), markdown.encode())
    kind = "texts claims demonstration" if plan.preset.demonstration else "texts claims"
    write_atomically(csv.with_suffix(".html"), table_page(title, shown_claims(frame), about, kind))
