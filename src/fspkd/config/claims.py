"""The claims that a preset is judged by, read from the file that it names. Imports no torch."""

from pydantic import ValidationError

from fspkd.config.load import CONFIG, explain, read_yaml
from fspkd.config.preset import Preset
from fspkd.config.results import Claim, Claims, FigureClaim, InferenceTimeClaim, RowsClaim, TimingClaim
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
    match claim:
        case RowsClaim():
            section, entry, labels = "tables", claim.table, ("more", "less")
        case FigureClaim():
            section, entry, labels = "figures", claim.figure, ("later", "earlier")
        case TimingClaim():
            section, entry, labels = "timings", claim.timing, ()
        case InferenceTimeClaim():
            section, entry, labels = "timings", claim.timing, ("row", "than")
    entries = getattr(preset, section)
    if entry not in entries:
        if f"{section}.{entry}" in preset.left_out:
            return False
        raise UserError(
            f"{where}: {section[:-1]} = {entry!r}: preset {preset.name!r} has no such entry{suggest(entry, entries)}. Correct "
            f"it or, if the preset should not have it, leave it out there: {section}: {{{entry}: null}}."
        )
    if section == "timings":
        _check_kind(preset, claim, where)
    for key in labels:
        known = entries[entry].curves if section == "figures" else entries[entry].rows
        if (label := getattr(claim, key)) is not None and label not in known:
            raise UserError(
                f"{where}: {key} = {label!r}: preset {preset.name!r} has no such entry{suggest(label, known)}. Correct it, or "
                f"set claims: null in the preset."
            )
    if isinstance(claim, FigureClaim) and claim.measure not in entries[entry].measures:
        raise UserError(
            f"{where}: measure = {claim.measure!r}: figure {entry!r} of preset {preset.name!r} is of first stages, which are "
            f"not tested. Name the training loss."
        )
    if isinstance(claim, RowsClaim):
        _check_measure(preset, claim, where)
        _check_data(preset, claim, where)
    return True


def _check_kind(preset: Preset, claim: TimingClaim | InferenceTimeClaim, where: str) -> None:
    kind, wanted = preset.timings[claim.timing].kind, {"timing": "training_time"}.get(claim.compare, claim.compare)
    if kind != wanted:
        raise UserError(
            f"{where}: timing = {claim.timing!r}: is of kind {kind} in preset {preset.name!r}, and compare: {claim.compare} is "
            f"about kind {wanted}. Name one of that kind."
        )


def _check_measure(preset: Preset, claim: RowsClaim, where: str) -> None:
    measured = preset.tables[claim.table].measured
    if (claim.value == "error") != (measured == "error"):
        known = "error" if measured == "error" else "accuracy, average, ensemble or gain"
        raise UserError(
            f"{where}: value = {claim.value!r}: what table {claim.table!r} of preset {preset.name!r} shows is {measured}. "
            f"Name {known}."
        )


def _check_data(preset: Preset, claim: RowsClaim, where: str) -> None:
    rows = preset.tables[claim.table].rows
    more, less = (preset.rows[rows[label].partition("/")[0]].data for label in (claim.more, claim.less))
    if more != less:
        raise UserError(
            f"{where}: {claim.more!r} is on {more!r} and {claim.less!r} on {less!r}, and only rows on the same test images "
            f"can be compared. Name two rows on one data set."
        )
