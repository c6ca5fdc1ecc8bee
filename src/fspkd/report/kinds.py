"""Kinds of figure and of time comparison: a module of this folder for each, with the name that presets give the kind."""

import importlib
from types import ModuleType

from fspkd.config.results import Figure, Timing


def module_of(entry: Figure | Timing) -> ModuleType:
    """The module of an entry's kind.

    Of a figure: `read(plan, name)` gives its data, `draw(title, data)` the drawing, `files(data)` the content of the files
    beside it, by their ends, of which .csv is one, and `on_page(plan, name)` what stands below it on a page: a note and a
    table. Of a time comparison: `measure(plan, name, device)` gives its frame, `shown_timing(frame)` that as people read it,
    and `how(frame)` what the times are of.
    """
    return importlib.import_module(f"fspkd.report.{entry.kind}")
