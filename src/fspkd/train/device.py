"""The device that a process trains on."""

import torch

from fspkd.errors import UserError


def choose(name: str | None, threads: int) -> torch.device:
    """Set torch up for a device, by default the GPU where there is one; raises UserError where it is not there.

    float32 means float32: no TF32, and cuDNN's deterministic algorithms, so that a seed gives the same bits again.
    """
    torch.set_num_threads(threads)
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device = {name!r}: cannot be used here: {str(error).splitlines()[0]}.") from None
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    return device
