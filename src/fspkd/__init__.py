"""Knowledge distillation by FSP matrices and by hints: the library behind the workflow.

import fspkd

fspkd.results("results/quickstart")      runs, their nets, metrics and predictions, and tables
fspkd.fsp_matrix, fspkd.fsp_loss         [Yim et al., CVPR 2017], for any training loop
fspkd.hint_loss, fspkd.kd_loss           [Romero et al., ICLR 2015]
"""

import importlib
from importlib.metadata import version
from typing import Any

# Imported on first use: most of the package needs none of them.
_PLACES = {
    "results": ("fspkd.saved", "Results"),
    "fsp_matrix": ("fspkd.distill.fsp", "fsp_matrix"),
    "fsp_loss": ("fspkd.distill.fsp", "fsp_loss"),
    "hint_loss": ("fspkd.distill.hint", "hint_loss"),
    "kd_loss": ("fspkd.distill.kd", "kd_loss"),
}
__all__ = ["__version__", "fsp_loss", "fsp_matrix", "hint_loss", "kd_loss", "results"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("fspkd")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(module), attribute)
