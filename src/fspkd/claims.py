"""What a paper claims, as comparisons of what presets compute. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from fspkd.config import Preset
from fspkd.errors import UserError
from fspkd.presets import explain, read_yaml
from fspkd.settings import PositiveReal, Real, Settings, suggest


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
    what: str


Claim = Annotated[RowsClaim | FigureClaim | TimingClaim, Field(discriminator="compare")]


class Claims(Settings):
    claims: Annotated[tuple[Claim, ...], Field(strict=False)]


def load_claims(path: Path, preset: Preset) -> tuple[Claim, ...]:
    """The claims in a YAML file; raises UserError for one that is not valid, or about what the preset does not compute."""
    content = read_yaml(path)
    try:
        claims = Claims.model_validate(content).claims
    except ValidationError as error:
        raise UserError(explain(error, [(path, content)], content)) from None
    for number, claim in enumerate(claims, 1):
        kind = {"rows": "tables", "figure": "figures", "timing": "timings"}[claim.compare]
        name = getattr(claim, {"rows": "table"}.get(claim.compare, claim.compare))
        known = getattr(preset, kind)
        labels: dict[str, object] = {}
        if name in known and claim.compare != "timing":
            labels = known[name].rows if claim.compare == "rows" else known[name].curves
        named = {"rows": ("more", "less"), "figure": ("later", "earlier")}.get(claim.compare, ())
        wrong = [(kind, name, known)] if name not in known else []
        wrong += [
            (key, getattr(claim, key), labels) for key in named if name in known and getattr(claim, key) not in labels
        ]
        for key, value, names in wrong:
            raise UserError(
                f"{path}: claim {number}, {claim.claim!r}: {key} = {value!r}: preset {preset.name!r} has no such "
                f"entry{suggest(value, names)}. Correct it, or set claims: false in the preset."
            )
    return claims
