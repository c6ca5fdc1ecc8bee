"""HTML that needs nothing else: a page that reads well on a screen, a phone and paper, and what is on it."""

import base64
import html
import math
from importlib.resources import files

import jinja2
import pandas as pd


def page(title: str, body: str) -> str:
    """A whole page with a heading."""
    template = files("fspkd.results").joinpath("page.html.j2").read_text(encoding="utf-8")
    return jinja2.Template(template, autoescape=True).render(title=title, body=body)


def table_html(frame: pd.DataFrame, kind: str = "") -> str:
    """A table of texts, of which the first column names the rows; `kind` is a class of the page's style sheet."""
    return f'<div class="wide {kind}">{frame.to_html(index=False, border=0)}</div>'


def picture_html(svg: bytes, description: str) -> str:
    """An SVG picture, with what it shows in words."""
    data = base64.b64encode(svg).decode()
    return f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{data}">'


def shown(value: float, form: str = ".2f") -> str:
    """A number as people read it; a dash for NaN."""
    return "–" if math.isnan(value) else format(value, form)
