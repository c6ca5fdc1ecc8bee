"""Claims judged: what the paper published, what came out here, how sure that is."""

from pathlib import Path

import numpy as np
import pandas as pd

from fspkd.config.load import CONFIG
from fspkd.config.results import Claim, FigureClaim, InferenceTimeClaim, RowsClaim, TimingClaim
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.results.pages import shown, table_page
from fspkd.results.predictions import correct_by_image
from fspkd.results.stats import CONFIDENCE, Estimate, holm, over_seeds_and_images, paired_ratio, ratio
from fspkd.results.tables import read_published, read_reference
from fspkd.runs.spec import Run

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


def _measured(plan: Plan, claim: Claim) -> dict[str, object]:
    measured = {RowsClaim: _rows, FigureClaim: _figure, TimingClaim: _timing, InferenceTimeClaim: _inference_time}
    unit, published, estimate = measured[type(claim)](plan, claim)
    within = getattr(claim, "within", None)
    if within is not None:
        has_to_be, threshold = "within", within
        holds, p_value = abs(estimate.value) < within, estimate.p_value_of_margin(within)
    else:
        has_to_be = "above"
        threshold = published * (1 - claim.tolerance) if isinstance(claim, TimingClaim) else claim.more_than
        holds, p_value = estimate.value > threshold, estimate.p_value(threshold)
    return {
        "claim": claim.claim,
        "where": claim.where,
        "unit": unit,
        "published": published,
        "ours": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "has_to_be": has_to_be,
        "threshold": threshold,
        "n": estimate.n,
        "p": p_value,
        "holds": holds,
    }


def _rows(plan: Plan, claim: RowsClaim) -> tuple[str, float, Estimate]:
    table = plan.preset.tables[claim.table]
    published = np.nan
    if table.reference:
        numbers = read_reference(plan, claim.table).reindex(columns=["accuracy", "average", "ensemble", "error"])
        numbers["gain"] = numbers["ensemble"] - numbers["average"]
        values = numbers[claim.value].reindex([claim.more, claim.less])  # NaN where nothing is published
        published = values[claim.more] - values[claim.less]
    more, less = table.rows[claim.more], table.rows[claim.less]
    # Who is wrong more often is right less often.
    terms = _terms(plan, "accuracy", less, more) if claim.value == "error" else _terms(plan, claim.value, more, less)
    estimate = over_seeds_and_images([100 * term for term in terms]) if terms else NOTHING
    return "percentage points", published, estimate


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
        shared = np.array([[_related(a, b) for b in theirs] for a in ours])
        if _independent(ours) and _independent(theirs):
            single = [np.concatenate([correct_by_image(pair[side])[0] for pair in pairs]) for side in (0, 1)]
            if not shared.any():
                return [single[0], -single[1]]
            if shared.shape[0] == shared.shape[1] and (shared.sum(0) == 1).all() and (shared.sum(1) == 1).all():
                return [single[0] - single[1][shared.argmax(1)]]
    return [np.stack([_of_replicate(value, a) - _of_replicate(value, b) for a, b in pairs])]


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


def _figure(plan: Plan, claim: FigureClaim) -> tuple[str, float, Estimate]:
    path = Path(plan.preset.results) / f"{claim.figure}_flat.csv"
    if not path.exists():
        return "times", claim.published, NOTHING
    flat = pd.read_csv(path)
    flat = flat[flat["measure"] == claim.measure]
    nets = plan.curves(claim.figure)
    later, earlier = (independent_flat_parts(nets[label], flat) for label in (claim.later, claim.earlier))
    return "times", claim.published, ratio(later, earlier)


def independent_flat_parts(nets: list[Run], flat: pd.DataFrame) -> list[float]:
    """The iterations at which the nets of a curve become flat, by `flat`, a measure's flat parts.

    Where nets share anything trained, the geometric mean over those of each replicate.
    """
    at = flat.drop_duplicates("net").set_index("net")["iteration"]
    nets = [net for net in nets if net.id in at.index]
    if _independent(nets):
        return [at[net.id] for net in nets]
    replicates = pd.Series({net.id: net.spec.replicate for net in nets})
    return list(np.exp(np.log(at[replicates.index]).groupby(replicates).mean()))


def _timing(plan: Plan, claim: TimingClaim) -> tuple[str, float, Estimate]:
    reference = pd.read_csv(CONFIG / plan.preset.timings[claim.timing].reference).set_index("what")
    published = reference["value"][claim.what]
    path = Path(plan.preset.results) / f"{claim.timing}.csv"
    if not path.exists():
        return "times", published, NOTHING
    row = pd.read_csv(path).set_index("what").loc[claim.what]
    return "times", published, Estimate.of_interval(row["value"], row["low"], row["high"], int(row["rounds"]))


def _inference_time(plan: Plan, claim: InferenceTimeClaim) -> tuple[str, float, Estimate]:
    """Of speed-ups each round of the measurement is a seed; weights are counted, so a compression has no error."""
    settings = plan.preset.timings[claim.timing]
    numerator, denominator = claim.than or settings.teacher_label, claim.row
    numbers = read_published(settings.reference).reindex(index=[numerator, denominator], columns=[claim.value])[
        claim.value
    ]
    asked = numbers[denominator] / numbers[numerator]  # each is the teacher's by its own
    path = Path(plan.preset.results) / f"{claim.timing}.csv"
    if not path.exists():
        return "times", asked, NOTHING
    measured = pd.read_csv(path).set_index("row")
    if claim.value == "compression":
        return "times", asked, Estimate.exact(measured["weights"][numerator] / measured["weights"][denominator])
    rounds = measured.filter(regex=r"^round\d+$")
    return "times", asked, paired_ratio(rounds.loc[numerator], rounds.loc[denominator])


def shown_claims(frame: pd.DataFrame) -> pd.DataFrame:
    """Claims as people read them: a text a cell."""

    def with_unit(column: str) -> list[str]:
        pairs = zip(frame[column], frame["unit"], strict=True)
        return [shown(value) + (" times" if unit == "times" and pd.notna(value) else "") for value, unit in pairs]

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
    markdown = f"{title}. {about}\n\n{shown_claims(frame).to_markdown(index=False)}\n"
    write_atomically(csv.with_suffix(".md"), markdown.encode())
    write_atomically(csv.with_suffix(".html"), table_page(title, shown_claims(frame), about, "texts claims"))
