"""What all kinds of time comparison share: the machine measured on, reading, and writing."""

from pathlib import Path

import pandas as pd

from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.kinds import module_of
from fspkd.report.labelled import read_labelled
from fspkd.report.pages import table_page
from fspkd.result import Result

MACHINE = ("device", "processor", "threads")  # the columns with the machine that a comparison was measured on


def read_timing(plan: Plan, name: str) -> pd.DataFrame:
    """Read a measured time comparison. Raises UserError if it is from other code and lacks columns needed here."""
    csv = Path(Result(plan, "timing", name).file)
    frame = read_labelled(csv)
    if not {*MACHINE, "round1"} <= {*frame}:
        raise UserError(
            f"{csv}: lacks the rounds, or the machine that they were measured on. Delete it, so that it is measured again."
        )
    return frame


def measured_on(frame: pd.DataFrame) -> str:
    """The device or processor measured on, as text."""
    first = frame.iloc[0]
    return first["device"] if first["device"] != "cpu" else f"{first['processor']}, threads: {first['threads']}"


def write(plan: Plan, name: str, frame: pd.DataFrame) -> Path:
    """Write a time comparison, as measured by its kind, as CSV and HTML; returns the CSV's path."""
    settings, csv = plan.preset.timings[name], Path(Result(plan, "timing", name).file)
    kind = module_of(settings)
    write_atomically(csv, frame.to_csv(index=False, float_format="%.6g").encode())
    title = f"{settings.title} (preset {plan.preset.name})"
    page = table_page(title, kind.shown_timing(frame), kind.how(frame), notes=[settings.note] if settings.note else [])
    write_atomically(csv.with_suffix(".html"), page)
    return csv
