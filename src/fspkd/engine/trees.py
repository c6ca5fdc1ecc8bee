"""Nested dicts, lists and tuples of tensors, such as a method's targets."""

from collections.abc import Callable
from typing import Any


def each(function: Callable[..., Any], *trees: Any) -> Any:
    """Apply a function to corresponding leaves of equal trees of dicts, lists and tuples; None stays None."""
    if trees[0] is None:
        return None
    if isinstance(trees[0], dict):
        return {key: each(function, *(tree[key] for tree in trees)) for key in trees[0]}
    if isinstance(trees[0], list | tuple):
        return type(trees[0])(each(function, *parts) for parts in zip(*trees, strict=True))
    return function(*trees)
