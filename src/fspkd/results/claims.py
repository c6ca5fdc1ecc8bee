"""Claims judged: what the paper published, what came out here, how sure that is."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from fspkd.config.results import FigureClaim, RowsClaim, TimingClaim
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.results.pages import shown, table_page
from fspkd.results.predictions import correct_by_image
from fspkd.results.stats import Estimate, over_seeds_and_images, ratio
from fspkd.results.tables import read_reference


def verdict(estimate: Estimate, threshold: float) -> str:
    """What an interval says about a claim that a value lies above a threshold."""
    if estimate.n > 1 and estimate.low > threshold:
        return "reproduced"
    if estimate.n > 1 and estimate.high < threshold:
        return "not reproduced"
    return f"undecided at n = {estimate.n}"


def judge(plan: Plan) -> pd.DataFrame:
    """The claims of a preset: claim, where, unit, published, ours, low, high, threshold, n, verdict.

    Differences between rows are in percentage points, and n is the number of replicates, or of nets where there is one
    replicate and the claim is about single nets; times and flat parts are ratios.
    """
    rows = []
    for claim in plan.claims:
        unit, published, estimate = {RowsClaim: _rows, FigureClaim: _figure, TimingClaim: _timing}[type(claim)](
            plan, claim
        )
        rows.append(
            {
                "claim": claim.claim,
                "where": claim.where,
                "unit": unit,
                "published": published,
                "ours": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "threshold": claim.more_than,
                "n": estimate.n,
                "verdict": verdict(estimate, claim.more_than),
            }
        )
    return pd.DataFrame(rows)


def _rows(plan: Plan, claim: RowsClaim) -> tuple[str, float, Estimate]:
    table = plan.preset.tables[claim.table]
    published = np.nan
    if table.reference:
        numbers = read_reference(plan, claim.table).reindex(columns=["accuracy", "average", "ensemble"])
        numbers["gain"] = numbers["ensemble"] - numbers["average"]
        values = numbers[claim.value].reindex([claim.more, claim.less])  # NaN where nothing is published
        published = values[claim.more] - values[claim.less]
    seeds = partial(_seeds, plan, claim.value)
    more, less = seeds(table.rows[claim.more]), seeds(table.rows[claim.less])
    # Replicates of two rows are pairs, which may share a teacher; nets of one replicate are not.
    terms = [more - less] if plan.preset.replicates > 1 or len(more) == len(less) == 1 else [more, -less]
    return "percentage points", published, over_seeds_and_images([100 * term for term in terms])


def _seeds(plan: Plan, value: str, reference: str) -> np.ndarray:
    """A value of nets for each test image, as (seeds, images): a seed is a replicate, or else a net."""
    replicates = [correct_by_image(plan.nets(reference, r + 1)) for r in range(plan.preset.replicates)]
    if value in ("accuracy", "average"):
        nets = [single for single, _ in replicates]
        return nets[0] if len(nets) == 1 else np.stack([single.mean(0) for single in nets])
    return np.stack([together - (single.mean(0) if value == "gain" else 0) for single, together in replicates])


def _figure(plan: Plan, claim: FigureClaim) -> tuple[str, float, Estimate]:
    flat = pd.read_csv(Path(plan.preset.results) / f"{claim.figure}_flat.csv")
    flat = flat[flat["measure"] == claim.measure].groupby("curve")["iteration"]
    return "times", claim.published, ratio(flat.get_group(claim.later), flat.get_group(claim.earlier))


def _timing(plan: Plan, claim: TimingClaim) -> tuple[str, float, Estimate]:
    row = pd.read_csv(Path(plan.preset.results) / f"{claim.timing}.csv").set_index("what").loc[claim.what]
    return "times", row["published"], Estimate(row["value"], row["low"], row["high"], int(row["rounds"]))


def shown_claims(frame: pd.DataFrame) -> pd.DataFrame:
    """Claims as people read them: a text a cell."""

    def with_unit(column: str) -> list[str]:
        pairs = zip(frame[column], frame["unit"], strict=True)
        return [shown(value) + (" times" if unit == "times" else "") for value, unit in pairs]

    return pd.DataFrame(
        {
            "claim": frame["claim"],
            "verdict": frame["verdict"],
            "ours": with_unit("ours"),
            "95 % interval": [f"{shown(a)} to {shown(b)}" for a, b in zip(frame["low"], frame["high"], strict=True)],
            "has to be above": frame["threshold"].map("{:g}".format),
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
