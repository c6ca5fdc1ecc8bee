"""Global, then local contrast normalisation, as pylearn2 prepared FitNets' SVHN (svhn_preprocessing.py, lecun_lcn)."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 7, 2.0  # of the Gaussian
LEAST_DIVISOR = 1e-4


class ContrastNormalization:
    """Normalise images (N, C, H, W) of 0 to 255; gives float32, channels last in memory.

    Globally: each image minus its mean, divided by its L2 norm. Then locally, each channel by itself: x - G * x, divided by
    the largest of sqrt(G * x^2), its mean over the image, and LEAST_DIVISOR. G is a Gaussian window of sum 1, and pixels
    outside the image are 0. As in pylearn2, the divisor is that of x, not of x - G * x. In pylearn2 a return inside a loop
    leaves all but the red channel without the local step; here all get it.
    """

    def __init__(self, device: torch.device) -> None:
        distances = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        profile = torch.exp(-(distances**2) / (2 * SIGMA**2))
        window = torch.outer(profile, profile)
        self.window_11HW = (window / window.sum())[None, None].to(device, torch.float32)

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        x = images_NCHW.float()
        x = x - x.mean((1, 2, 3), keepdim=True)
        # For integers, the norm is above 0.7 unless all are equal; then only rounding errors are left.
        x = x / torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True).clamp(min=0.5)
        spread = self._blurred(x.square()).sqrt()
        divisor = torch.maximum(spread, spread.mean((2, 3), keepdim=True)).clamp(min=LEAST_DIVISOR)
        return ((x - self._blurred(x)) / divisor).contiguous(memory_format=torch.channels_last)

    def _blurred(self, images_NCHW: Tensor) -> Tensor:
        planes = images_NCHW.reshape(-1, 1, *images_NCHW.shape[2:])
        return F.conv2d(planes, self.window_11HW, padding=WINDOW // 2).view(images_NCHW.shape)
