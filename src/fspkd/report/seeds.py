"""Which nets are independent seeds, how those of two rows or curves are paired, and what is compared, by seed."""

import numpy as np
import pandas as pd

from fspkd.plan import Plan
from fspkd.report.predictions import correct_by_image
from fspkd.report.stats import NOTHING, Estimate, paired_ratio, ratio
from fspkd.runs.spec import Run


def accuracies(plan: Plan, row: str) -> list[float]:
    """The accuracies of independent seeds, in percent: of a row's nets, or the means of its replicates where nets share
    anything trained. Unfinished replicates are left out."""
    replicates = [plan.nets(row, r + 1) for r in range(plan.preset.replicates)]
    replicates = [nets for nets in replicates if all(net.folder.is_finished for net in nets)]
    single = [100 * correct_by_image(nets)[0].mean(1) for nets in replicates]
    if _independent([net for nets in replicates for net in nets]):
        return [accuracy for of_replicate in single for accuracy in of_replicate]
    return [of_replicate.mean() for of_replicate in single]


def differences(plan: Plan, value: str, more: str, less: str) -> list[np.ndarray]:
    """A value's difference between two rows as matrices (independent seeds, images), whose means are to be added.

    A seed is a net if accuracies of single nets are compared and nets of the same row share nothing trained: each is paired
    with the only net of the other row that it shares something with, or unpaired if no net shares anything with the other
    row. Otherwise a seed is a replicate, paired. Unfinished replicates are left out.
    """
    pairs = [(plan.nets(more, r + 1), plan.nets(less, r + 1)) for r in range(plan.preset.replicates)]
    pairs = [pair for pair in pairs if all(net.folder.is_finished for nets in pair for net in nets)]
    if not pairs:
        return []
    if value in ("accuracy", "average"):
        ours, theirs = ([net for pair in pairs for net in pair[side]] for side in (0, 1))
        if (partners := _partners(ours, theirs)) is not None:
            single = [np.concatenate([correct_by_image(pair[side])[0] for pair in pairs]) for side in (0, 1)]
            return [single[0] - single[1][partners]] if partners else [single[0], -single[1]]
    return [np.stack([_of_replicate(value, a) - _of_replicate(value, b) for a, b in pairs])]


def _partners(ours: list[Run], theirs: list[Run]) -> list[int] | None:
    """For each of our nets, the index of the only one of theirs related to it; empty if none are related.

    None if nets of one side share anything trained, or one is related to none or several of the other side.
    """
    if not (_independent(ours) and _independent(theirs)):
        return None
    shared = np.array([[_related(a, b) for b in theirs] for a in ours])
    if not shared.any():
        return []
    is_one_to_one = len(ours) == len(theirs) and (shared.sum(0) == 1).all() and (shared.sum(1) == 1).all()
    return list(shared.argmax(1)) if is_one_to_one else None


def _of_replicate(value: str, nets: list[Run]) -> np.ndarray:
    """A value of a row's nets in one replicate, for each test image."""
    single, together = correct_by_image(nets)
    if value in ("accuracy", "average"):
        return single.mean(0)
    return together - (single.mean(0) if value == "gain" else 0)


def _related(one: Run, other: Run) -> bool:
    """Whether two nets share anything trained: both are, start from or learn from the same net."""
    return not one.ancestry.isdisjoint(other.ancestry)


def _independent(nets: list[Run]) -> bool:
    return not any(_related(one, other) for number, one in enumerate(nets) for other in nets[:number])


def ratio_of_flat_parts(later: list[Run], earlier: list[Run], of_measure: pd.DataFrame) -> Estimate:
    """How many times later the nets of one curve become flat than those of another, by one measure.

    Seeds and their pairs are as in `differences`: nets, or the geometric means over each replicate's nets.
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
    """The iterations from which nets are flat or, where they share anything trained, each replicate's geometric mean."""
    return [flat[net.id] for net in nets] if _independent(nets) else list(_of_replicates(nets, flat))


def _of_replicates(nets: list[Run], flat: pd.Series) -> pd.Series:
    """The geometric mean over the nets of each replicate, by its number."""
    replicates = pd.Series({net.id: net.spec.replicate for net in nets}, dtype=int)
    return np.exp(np.log(flat[replicates.index]).groupby(replicates).mean())
