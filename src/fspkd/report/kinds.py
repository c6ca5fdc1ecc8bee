"""Kinds of figure and time comparison: each is a module in this folder, with the name that presets use."""

import importlib
from types import ModuleType

from fspkd.config.results import Figure, Timing


def module_of(entry: Figure | Timing) -> ModuleType:
    """The module of an entry's kind.

    For a figure: `read(plan, name)` returns its data, `draw(title, data)` the drawing, `files(data)` the contents of files
    beside it by suffix, one of which is .csv, and `on_page(plan, name)` what a page shows below it: a note and a table.
    For a time comparison: `measure(plan, name, device)` returns its frame, `shown_timing(frame)` that frame formatted for
    readers, and `how(frame)` a text on what was timed.

    Another kind of figure is also a class of its settings in `config/results.py`, which derives from `Drawing` and is named
    in `Figure`; its caption in `workflow/report/<kind>.rst`; what is checked of it in `config/references.py`; what it reads in
    `workflow/results.py`; and which runs it draws in `Plan.drawn`, if these are not the nets that it names.
    """
    return importlib.import_module(f"fspkd.report.{entry.kind}")
