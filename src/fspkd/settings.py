"""The base of all settings: a frozen model that rejects unknown keys, and validated types. Imports no torch."""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

# YAML 1.1 reads 1e-3 as text; accepting text for numbers with a fraction spares users that trap.
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_NUMBER_OR_TEXT = {"type": ["number", "string"], "pattern": _NUMBER, "patternErrorMessage": "must be a number"}
NAMED = 40  # names listed in a message
Real = Annotated[float, Field(strict=False, allow_inf_nan=False, json_schema_extra=_NUMBER_OR_TEXT)]
PositiveReal = Annotated[Real, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0, lt=2**53)]  # exact in every reader of JSON and YAML
Few = Annotated[int, Field(gt=0, le=1000)]


def matching(pattern: str, description: str) -> tuple[AfterValidator, object]:
    """Metadata, for Annotated[str, *...], of strings that fully match a pattern; the editors' schema has the pattern too.

    `patternErrorMessage` is what editors show if it does not match.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be {description}, and is {text!r}")
        return text

    seen_by_editors: JsonDict = {"pattern": f"^({pattern})$", "patternErrorMessage": f"must be {description}"}
    return AfterValidator(check), Field(json_schema_extra=seen_by_editors)


def rising(values: tuple[int, ...]) -> tuple[int, ...]:
    """A validator of tuples; raises ValueError unless they strictly increase."""
    if list(values) != sorted(set(values)):
        raise ValueError("must be in increasing order, each number once")
    return values


def row_of(reference: str) -> str:
    """The row of a reference to a row, or to a net, such as teacher/1."""
    return reference.partition("/")[0]


def suggest(name: str, names: Iterable, otherwise: str | None = None) -> str:
    """'; did you mean ...' for a close match among names, else `otherwise` or the names."""
    names = [str(other) for other in names]
    if close := difflib.get_close_matches(str(name), names, 1):
        return f"; did you mean {close[0]!r}?"
    if otherwise is not None:
        return otherwise
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; available: {', '.join(names[:NAMED]) or 'none'}{more}"


def digest(content: object) -> str:
    """Ten hexadecimal digits of the SHA-256 of a JSON-serialisable value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]


Identifier = Annotated[
    str, *matching(r"[a-z0-9]+(_[a-z0-9]+)*", "lower-case letters and digits, with single underscores between them")
]
NetReference = Annotated[
    str, *matching(r"[a-z0-9_]+(/[1-9][0-9]*)?", "a row, or one net of it, such as teacher or teacher/1")
]
NotEmptyTuple = (Field(strict=False, min_length=1),)
NotEmptyMapping = (Field(min_length=1),)
OneNet = Annotated[str, *matching(r"[a-z0-9_]+/[1-9][0-9]*", "one net of a row, such as teacher/1")]
Sections = Annotated[tuple[PositiveInt, ...], *NotEmptyTuple, AfterValidator(rising)]


class Settings(BaseModel):
    """Settings by name; the strings below the fields document them, also in the docs and in editors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
