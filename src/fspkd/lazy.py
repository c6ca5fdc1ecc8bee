"""Libraries that are imported on first use: planning and training import modules that use them, but may need none."""

import importlib
from typing import TYPE_CHECKING, Any


class _Lazy:
    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self._module), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import pandas
    import torch
    from torch import fx as torch_fx
    from torchvision import models as torchvision_models
    from torchvision import ops as torchvision_ops
    from torchvision.models import feature_extraction
else:
    pandas = _Lazy("pandas")
    torch = _Lazy("torch")
    torch_fx = _Lazy("torch.fx")
    torchvision_models = _Lazy("torchvision.models")
    torchvision_ops = _Lazy("torchvision.ops")
    feature_extraction = _Lazy("torchvision.models.feature_extraction")
