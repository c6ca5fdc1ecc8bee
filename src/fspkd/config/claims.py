"""The claims that a preset is judged by, read from the file that it names. Imports no torch."""

from typing import Any

from pydantic import ValidationError

from fspkd.config.load import CONFIG, explain, read_yaml
from fspkd.config.preset import Preset
from fspkd.config.published import check_row
from fspkd.config.results import (
    Claim,
    Claims,
    FigureClaim,
    InferenceTime,
    InferenceTimeClaim,
    LearningClaim,
    PointsClaim,
    RowsClaim,
    Table,
    TimingClaim,
)
from fspkd.errors import UserError
from fspkd.settings import row_of, suggest

KINDS = {  # that an entry must have, by what a claim about it compares
    "figure": "curves",
    "points": "depth",
    "learning": "depth",
    "timing": "training_time",
    "inference_time": "inference_time",
}


def load_claims(preset: Preset) -> tuple[Claim, ...]:
    """The claims about what a preset has; none if it names no file of claims.

    Raises UserError for invalid claims, for rows and curves that the preset's tables and figures lack, for
    tables, figures and time comparisons that it neither has nor leaves out, and for speed-ups that are not published.
    """
    if preset.claims is None:
        return ()
    path = CONFIG / preset.claims
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"preset {preset.name!r}: claims = {preset.claims!r}: {error}") from None
    try:
        claims = Claims.model_validate(content).claims
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None
    return tuple(claim for claim in claims if _is_about(preset, claim, f"{path}: claim {claim.claim!r}"))


def _is_about(preset: Preset, claim: Claim, where: str) -> bool:
    """Whether a claim is about something that the preset has, and not about what it leaves out."""
    section, key, name = _subject(preset, claim)
    entries = getattr(preset, section)
    if name not in entries:
        if not {f"{section}.{name}", f"alternatives.{name}"}.isdisjoint(preset.left_out):
            return False
        raise UserError(
            f"{where}: {key} = {name!r}: preset {preset.name!r} has no such entry. Correct it or, if the preset is not "
            f"meant to have it, set it to null there: {section}: {{{name}: null}}{suggest(name, entries)}"
        )
    entry, wanted = entries[name], KINDS.get(claim.compare)
    if wanted and entry.kind != wanted:
        raise UserError(
            f"{where}: {key} = {name!r}: has kind {entry.kind} in preset {preset.name!r}, but compare: {claim.compare} needs "
            f"kind {wanted}. Name one of that kind."
        )
    _check_named(preset, claim, entry, where)
    if isinstance(claim, FigureClaim) and claim.measure not in entry.measures:
        raise UserError(
            f"{where}: measure = {claim.measure!r}: figure {name!r} of preset {preset.name!r} shows first stages, which are "
            f"not tested. Set measure: training loss."
        )
    if isinstance(claim, TimingClaim):
        check_row(CONFIG / entry.reference, entry.kind, claim.what, where)
    if isinstance(claim, RowsClaim):
        _check_value(preset, claim, entry, where)
        _check_data(preset, claim, entry, where)
    return True


def _subject(preset: Preset, claim: Claim) -> tuple[str, str, str]:
    """The section of the preset, the key of the claim and the name of what a claim is about."""
    match claim:
        case RowsClaim():
            is_timing = claim.table in preset.timings or f"timings.{claim.table}" in preset.left_out
            return "timings" if is_timing else "tables", "table", claim.table
        case FigureClaim() | PointsClaim() | LearningClaim():
            return "figures", "figure", claim.figure
        case TimingClaim() | InferenceTimeClaim():
            return "timings", "timing", claim.timing


def _check_named(preset: Preset, claim: Claim, entry: Any, where: str) -> None:
    """Raise UserError for a row or curve that the claim names and its table or figure does not have."""
    known, labels = (), {}
    match claim:
        case RowsClaim():
            known, labels = getattr(entry, "rows", ()), {"more": claim.more, "less": claim.less}
        case FigureClaim():
            known, labels = entry.curves, {"later": claim.later, "earlier": claim.earlier}
        case PointsClaim():
            known, labels = entry.nets, {"more": claim.more, "less": claim.less}
        case LearningClaim():
            known, labels = entry.nets, {f"nets.{number}": nets for number, nets in enumerate(claim.nets)}
        case InferenceTimeClaim():
            known, labels = entry.rows, {"row": claim.row, **({"than": claim.than} if claim.than else {})}
    for key, label in labels.items():
        if label not in known:
            raise UserError(
                f"{where}: {key} = {label!r}: preset {preset.name!r} has no such entry. Correct it, or set claims: null in the "
                f"preset{suggest(label, known)}"
            )
    if isinstance(claim, InferenceTimeClaim) and not claim.than:
        labels["the teacher"] = entry.teacher_label
    if twice := next((label for label in labels.values() if [*labels.values()].count(label) > 1), None):
        same = " and ".join(key for key, label in labels.items() if label == twice)
        raise UserError(f"{where}: {same} are the same: {twice!r}. Name different ones.")


def _check_value(preset: Preset, claim: RowsClaim, entry: Table | InferenceTime, where: str) -> None:
    """Raise UserError for a value that a table, or a time comparison, does not show."""
    if isinstance(entry, InferenceTime):
        shown, known = "the accuracy of single nets", ("accuracy",)
    else:
        shown = entry.measured
        known = ("error",) if shown == "error" else ("accuracy", "average", "ensemble", "gain")
    if claim.value not in known:
        raise UserError(
            f"{where}: value = {claim.value!r}: table {claim.table!r} of preset {preset.name!r} shows {shown}. "
            f"Name {' or '.join([', '.join(known[:-1]), known[-1]] if len(known) > 1 else known)}."
        )


def _check_data(preset: Preset, claim: RowsClaim, entry: Table | InferenceTime, where: str) -> None:
    more, less = (preset.rows[row_of(entry.rows[label])].data for label in (claim.more, claim.less))
    if more != less:
        raise UserError(
            f"{where}: {claim.more!r} is on {more!r} and {claim.less!r} on {less!r}, but only rows on the same test images "
            f"can be compared. Name two rows on the same data set."
        )
