"""What all kinds of time comparison share: how one is written."""

from pathlib import Path

import pandas as pd

from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.kinds import module_of
from fspkd.report.pages import table_page
from fspkd.result import Result


def write(plan: Plan, name: str, frame: pd.DataFrame) -> Path:
    """Write a time comparison as CSV, which it gives, and beside it as HTML, from what its kind has measured."""
    settings, csv = plan.preset.timings[name], Path(Result(plan, "timing", name).file)
    kind = module_of(settings)
    write_atomically(csv, frame.to_csv(index=False, float_format="%.6g").encode())
    title = f"{settings.title} (preset {plan.preset.name})"
    page = table_page(title, kind.shown_timing(frame), kind.how(frame), note=settings.note)
    write_atomically(csv.with_suffix(".html"), page)
    return csv
