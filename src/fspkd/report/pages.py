"""Self-contained HTML pages that read well on a screen, a phone and paper."""

import math
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

CLAIMS = "What the paper claims, and what came out"  # the title of verdicts on claims
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> bytes:
    """Render a page from a template in this folder; every value is escaped."""
    return _ENVIRONMENT.get_template(template).render(values).encode()


def table_page(title: str, frame: pd.DataFrame, about: str = "", kind: str = "", notes: Sequence[str] = ()) -> bytes:
    """A page with one table of texts, whose first column names the rows, with `about` above it and notes below.

    `kind`: CSS classes of the table.
    """
    return render("table.html.j2", title=title, frame=frame, about=about, kind=kind, notes=notes)


def shown(value: float, form: str = ".2f") -> str:
    """A number formatted for readers; a dash for NaN."""
    return "–" if math.isnan(value) else format(value, form)
