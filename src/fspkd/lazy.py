"""torch, imported when it is first used: what plans a workflow reads the settings of losses and needs none of it."""

import importlib
from typing import TYPE_CHECKING, Any


class _Lazy:
    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module("torch"), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import torch
else:
    torch = _Lazy()
