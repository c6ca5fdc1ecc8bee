"""Random crops and flips: one gather makes a whole batch of them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pad_images(images_NHWC: Tensor, pad: int) -> Tensor:
    """Zero-pad height and width by `pad` pixels on each side: (N, H, W, C) to (N, H+2p, W+2p, C), once per data set."""
    return F.pad(images_NHWC, (0, 0, pad, pad, pad, pad)) if pad else images_NHWC


def crop_and_flip(
    padded_NHWC: Tensor, index_B: Tensor, offsets_B2: Tensor, flips_B: Tensor, size: tuple[int, int]
) -> Tensor:
    """Images `index` cropped at (top, left) `offsets` to `size` (height, width), mirrored where `flips`: (B, h, w, C).

    Equal to torchvision's crop followed by hflip at the same offsets.
    """
    height, width = size
    rows = offsets_B2[:, :1] + torch.arange(height, device=index_B.device)
    columns = torch.arange(width, device=index_B.device).expand(len(index_B), width)
    columns = offsets_B2[:, 1:] + torch.where(flips_B[:, None], width - 1 - columns, columns)
    return padded_NHWC[index_B[:, None, None], rows[:, :, None], columns[:, None, :]]
