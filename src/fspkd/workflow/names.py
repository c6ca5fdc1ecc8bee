"""Patterns for the names that the wildcards of rules may take."""

import re
from collections.abc import Iterable

from fspkd.plan import Plan


def one_of(texts: Iterable[str]) -> str:
    """A pattern that matches any of some texts, and nothing if there are none."""
    return "|".join(map(re.escape, sorted(set(texts)))) or "(?!)"


def names_in(plans: dict[str, Plan], section: str, kind: str | None = None, below: tuple[str, ...] = ("",)) -> str:
    """A pattern for the names of all tables, figures or timings, each right after the folder of results that it is in.

    What is a table of one preset may be a timing of another. With `kind`, only those of that kind. With `below`, right
    after one of these folders of the results, such as "metrics/".
    """
    names = (
        (folder, name)
        for folder, plan in plans.items()
        for name, entry in getattr(plan.preset, section).items()
        if kind is None or entry.kind == kind
    )
    patterns = (f"(?<={re.escape(f'{folder}/{b}')}){re.escape(name)}" for folder, name in sorted(names) for b in below)
    return "|".join(patterns) or "(?!)"


def names_of_pictures(plans: dict[str, Plan]) -> str:
    """A pattern for the names of all tables and, where a preset has claims, for `claims`, each right after its folder."""
    claims = (f"(?<={re.escape(f'{folder}/')})claims" for folder, plan in plans.items() if plan.claims)
    return "|".join([*claims, names_in(plans, "tables")])
