"""The claims that a preset is judged by, read from the file that it names. Imports no torch."""

from pydantic import ValidationError

from fspkd.config.load import CONFIG, explain, read_yaml
from fspkd.config.preset import Preset
from fspkd.config.results import (
    Claim,
    Claims,
    Curves,
    Depth,
    FigureClaim,
    LearningClaim,
    PointsClaim,
    RowsClaim,
    Table,
    TimingClaim,
    TrainingTime,
)
from fspkd.errors import UserError
from fspkd.settings import suggest


def load_claims(preset: Preset) -> tuple[Claim, ...]:
    """The claims about what a preset has; none where it names no file of claims.

    Raises UserError for claims that are not valid, for rows and curves that the preset's tables and figures lack, and for
    tables, figures and time comparisons that it neither has nor leaves out.
    """
    if preset.claims is None:
        return ()
    path = CONFIG / preset.claims
    content = read_yaml(path)
    try:
        claims = Claims.model_validate(content).claims
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None
    return tuple(claim for claim in claims if _is_about(preset, claim, f"{path}: claim {claim.claim!r}"))


def _is_about(preset: Preset, claim: Claim, where: str) -> bool:
    """Whether a claim is about something that the preset has, and not about what it leaves out."""
    section, name = _subject(claim)
    entries = getattr(preset, section)
    if name not in entries:
        if f"{section}.{name}" in preset.left_out:
            return False
        raise UserError(
            f"{where}: {section[:-1]} = {name!r}: preset {preset.name!r} has no such entry{suggest(name, entries)}. Correct "
            f"it or, if the preset should not have it, leave it out there: {section}: {{{name}: null}}."
        )
    entry = entries[name]
    kind = {FigureClaim: "curves", PointsClaim: "depth", LearningClaim: "depth"}.get(type(claim))
    if kind and entry.kind != kind:
        raise UserError(
            f"{where}: figure = {name!r}: is of kind {entry.kind!r} in preset {preset.name!r}, and only kind {kind!r} shows "
            f"what is claimed. Name another figure."
        )
    _check_named(preset, claim, entry, where)
    if isinstance(claim, FigureClaim) and claim.measure not in entry.measures:
        raise UserError(
            f"{where}: measure = {claim.measure!r}: figure {name!r} of preset {preset.name!r} is of first stages, which are "
            f"not tested. Name the training loss."
        )
    if isinstance(claim, RowsClaim):
        _check_data(preset, claim, entry.rows, where)
    return True


def _subject(claim: Claim) -> tuple[str, str]:
    """The section and the name of what a claim is about."""
    match claim:
        case RowsClaim():
            return "tables", claim.table
        case FigureClaim() | PointsClaim() | LearningClaim():
            return "figures", claim.figure
        case TimingClaim():
            return "timings", claim.timing


def _check_named(preset: Preset, claim: Claim, entry: Table | Curves | Depth | TrainingTime, where: str) -> None:
    """Raise UserError for a row or curve that what the claim is about does not have."""
    known, labels = (), {}
    match claim:
        case RowsClaim():
            known, labels = entry.rows, {"more": claim.more, "less": claim.less}
        case FigureClaim():
            known, labels = entry.curves, {"later": claim.later, "earlier": claim.earlier}
        case PointsClaim():
            known, labels = entry.nets, {"more": claim.more, "less": claim.less}
        case LearningClaim():
            known, labels = entry.nets, {f"nets.{number}": nets for number, nets in enumerate(claim.nets)}
    for key, label in labels.items():
        if label not in known:
            raise UserError(
                f"{where}: {key} = {label!r}: preset {preset.name!r} has no such entry{suggest(label, known)}. Correct it, or "
                f"set claims: null in the preset."
            )


def _check_data(preset: Preset, claim: RowsClaim, rows: dict[str, str], where: str) -> None:
    more, less = (preset.rows[rows[label].partition("/")[0]].data for label in (claim.more, claim.less))
    if more != less:
        raise UserError(
            f"{where}: {claim.more!r} is on {more!r} and {claim.less!r} on {less!r}, and only rows on the same test images "
            f"can be compared. Name two rows on one data set."
        )
