"""Laying what a preset says on what another says. Imports no torch."""

from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from fspkd.config.preset import Preset


@cache
def discriminators(model: type[BaseModel]) -> set[str]:
    """The keys whose value decides which other keys a mapping has."""
    found: set[str] = set()
    seen: set[type] = set()

    def walk(kind: Any, marks: tuple = ()) -> None:
        found.update(name for mark in marks if isinstance(name := getattr(mark, "discriminator", None), str))
        if get_origin(kind) is Annotated:
            inner, *inside = get_args(kind)
            walk(inner, tuple(inside))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            if kind not in seen:
                seen.add(kind)
                for field in kind.model_fields.values():
                    walk(field.annotation, (field, *field.metadata))
        else:
            for part in get_args(kind):
                walk(part)

    walk(model)
    return found


def merge(base: Any, over: Any) -> Any:
    """`over` laid on `base`, mapping by mapping; anything else, or another source or method, replaces what was there."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if any(isinstance(over.get(tag), str) and over[tag] != base.get(tag) for tag in discriminators(Preset)):
        return over
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
