"""Merging a preset into the one that it extends. Imports no torch."""

import json
import re
from functools import cache
from typing import Any

from pydantic import BaseModel

from fspkd.config.preset import Preset


@cache
def discriminators(model: type[BaseModel]) -> set[str]:
    """The keys whose value decides which other keys a mapping has."""
    return set(re.findall(r'"propertyName": "(\w+)"', json.dumps(model.model_json_schema())))


def merge(base: Any, over: Any) -> Any:
    """`over` merged into `base`, mapping by mapping; anything else, or another source or method, replaces what was there."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if any(isinstance(over.get(tag), str) and over[tag] != base.get(tag) for tag in discriminators(Preset)):
        return over
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in over.items()}}
