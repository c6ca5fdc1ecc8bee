"""Noticing what a GPU cannot do while it captures an iteration, on a CPU, where it works."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fspkd.errors import UserError

aten = torch.ops.aten
ASKING = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten._unique2.default}


class NoValues(TorchDispatchMode):
    """A context in which UserError is raised where the next operation, or its result's shape, depends on a tensor's values."""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        masks = args[1] if function is aten.index.Tensor else ()
        if function in ASKING or any(mask is not None and mask.dtype in (torch.bool, torch.uint8) for mask in masks):
            raise UserError(
                f"an iteration asks a tensor for its values ({function.name()}), which a GPU cannot while it captures it. "
                f"Instead of .item(), float(x), `if x` and x[mask], compute with tensors, such as by torch.where(mask, x, 0)."
            )
        return function(*args, **(kwargs or {}))
