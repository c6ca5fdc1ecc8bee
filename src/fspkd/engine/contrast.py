"""Global, then local contrast normalisation of batches, as pylearn2 made FitNets' SVHN (svhn_preprocessing.py, lecun_lcn)."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 7, 2.0  # of the Gaussian
LEAST_DIVISOR = 1e-4


class ContrastNormalization:
    """Called with images (N, C, H, W) of 0 to 255, gives them normalised, float32, channels last in memory.

    Globally: each image minus its mean, divided by its L2 norm. Then locally, each channel by itself: x - G * x, divided by
    the largest of sqrt(G * x^2), the mean of that over the image, and LEAST_DIVISOR. G is a Gaussian window of sum 1, and
    what lies outside the image is 0. As in pylearn2, the divisor is of x and not of x - G * x. There only the red channel is
    normalised locally, by a return inside a loop; here all are.
    """

    def __init__(self, device: torch.device) -> None:
        distances = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
        profile = torch.exp(-(distances**2) / (2 * SIGMA**2))
        window = torch.outer(profile, profile)
        self.window_11HW = (window / window.sum())[None, None].to(device, torch.float32)

    def __call__(self, images_NCHW: Tensor) -> Tensor:
        x = images_NCHW.float()
        x = x - x.mean((1, 2, 3), keepdim=True)
        # Of integers, the norm is above 0.7 where they are not all equal; where they are, only rounding is left.
        x = x / torch.linalg.vector_norm(x, dim=(1, 2, 3), keepdim=True).clamp(min=0.5)
        spread = self._blurred(x.square()).sqrt()
        divisor = torch.maximum(spread, spread.mean((2, 3), keepdim=True)).clamp(min=LEAST_DIVISOR)
        return ((x - self._blurred(x)) / divisor).contiguous(memory_format=torch.channels_last)

    def _blurred(self, images_NCHW: Tensor) -> Tensor:
        planes = images_NCHW.reshape(-1, 1, *images_NCHW.shape[2:])
        return F.conv2d(planes, self.window_11HW, padding=WINDOW // 2).view(images_NCHW.shape)
