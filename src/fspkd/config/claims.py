"""What a paper claims, as comparisons of what presets compute. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from fspkd.config.load import explain, read_yaml
from fspkd.config.preset import Preset
from fspkd.errors import UserError
from fspkd.settings import PositiveReal, Real, Settings, suggest

SpeedUp = Literal[
    "speed-up of Student* over three teachers, on the fly",
    "speed-up of Student* with saved FSP",
    "speed-up of Student*† with saved FSP",
    "speed-up of Student*† with shared FSP",
]


class BaseClaim(Settings):
    """`where`: in the paper. Reproduced where our value is above `more_than`."""

    claim: str
    where: str
    more_than: Real = 0.0


class RowsClaim(BaseClaim):
    """`more` is above `less` in a table. `gain`: of the ensemble over the average."""

    compare: Literal["rows"]
    table: str
    value: Literal["accuracy", "average", "ensemble", "gain"]
    more: str
    less: str


class FigureClaim(BaseClaim):
    """In a figure's `measure`, `later` enters its flat part so many times later than `earlier`."""

    compare: Literal["figure"]
    figure: str
    measure: Literal["training loss", "test accuracy"]
    later: str
    earlier: str
    published: PositiveReal


class TimingClaim(BaseClaim):
    """A speed-up of a time comparison."""

    compare: Literal["timing"]
    timing: str
    what: SpeedUp


Claim = Annotated[RowsClaim | FigureClaim | TimingClaim, Field(discriminator="compare")]


class Claims(Settings):
    claims: Annotated[tuple[Claim, ...], Field(strict=False)]


def load_claims(path: Path, preset: Preset) -> tuple[Claim, ...]:
    """The claims in a YAML file about what a preset has.

    Raises UserError for claims that are not valid, and for rows and curves that the preset's tables and figures lack.
    """
    content = read_yaml(path)
    try:
        claims = Claims.model_validate(content).claims
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None
    chosen = []
    for claim in claims:
        match claim:
            case RowsClaim() if claim.table in preset.tables:
                named, known = ("more", "less"), preset.tables[claim.table].rows
            case FigureClaim() if claim.figure in preset.figures:
                named, known = ("later", "earlier"), preset.figures[claim.figure].curves
            case TimingClaim() if claim.timing in preset.timings:
                named, known = (), {}
            case _:
                continue
        chosen.append(claim)
        for key in named:
            if (label := getattr(claim, key)) not in known:
                raise UserError(
                    f"{path}: claim {claim.claim!r}: {key} = {label!r}: preset {preset.name!r} has no such entry"
                    f"{suggest(label, known)}. Correct it, or set claims: false in the preset."
                )
        if isinstance(claim, RowsClaim):
            data = [preset.rows[known[label].partition("/")[0]].data for label in (claim.more, claim.less)]
            if data[0] != data[1]:
                raise UserError(
                    f"{path}: claim {claim.claim!r}: {claim.more!r} is on {data[0]!r} and {claim.less!r} on {data[1]!r}, and "
                    f"only rows on the same test images can be compared. Name two rows on one data set."
                )
    return tuple(chosen)
