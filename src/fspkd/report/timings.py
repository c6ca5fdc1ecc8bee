"""What all kinds of time comparison share: where one is measured, and how it is written."""

from pathlib import Path

import pandas as pd
import torch

from fspkd.files import write_atomically
from fspkd.plan import Plan
from fspkd.report.kinds import module_of
from fspkd.report.pages import table_page
from fspkd.result import Result
from fspkd.train.machine import description


def machine(device: torch.device) -> dict[str, object]:
    """The columns that say on what a comparison is measured."""
    described = description(device)
    return {key: described[key] for key in ("device", "processor", "threads")}


def measured_on(frame: pd.DataFrame) -> str:
    """On what a comparison was measured, for people."""
    first = frame.iloc[0]
    return first["device"] if first["device"] != "cpu" else f"{first['processor']}, threads: {first['threads']}"


def write(plan: Plan, name: str, frame: pd.DataFrame) -> Path:
    """Write a time comparison as CSV, which it gives, and beside it as HTML, from what its kind has measured."""
    settings, csv = plan.preset.timings[name], Path(Result(plan, "timing", name).file)
    kind = module_of(settings)
    write_atomically(csv, frame.to_csv(index=False, float_format="%.6g").encode())
    title = f"{settings.title} (preset {plan.preset.name})"
    page = table_page(title, kind.shown_timing(frame), kind.how(frame), note=settings.note)
    write_atomically(csv.with_suffix(".html"), page)
    return csv
