"""FSP matrices and their loss [Yim et al., CVPR 2017, eqs. 1 and 2]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fspkd.config import Fsp, Network
from fspkd.distill.objective import Objective, float32
from fspkd.models import CifarResNet
from fspkd.streams import generator

# The two taps of each of the three matrices.
PAIRS = {
    "section": (("stem", "section1"), ("section1", "section2"), ("section2", "section3")),
    "module": tuple((f"section{i}.first", f"section{i}") for i in (1, 2, 3)),
}


def fsp_matrix(first_BMHW: Tensor, second_BNHW: Tensor) -> Tensor:
    """The FSP matrix of two feature maps, eq. (1): G[i, j] = sum over s, t of F1[s, t, i] F2[s, t, j] / (h w).

    Gives (B, M, N), a matrix for each image. Where the maps differ in spatial size the larger is max-pooled down;
    raises ValueError where no whole factor lies between the sizes.
    """
    sizes = first_BMHW.shape[2:], second_BNHW.shape[2:]
    small = min(sizes)
    if any(a % b for size in sizes for a, b in zip(size, small, strict=True)):
        raise ValueError(f"feature maps of {sizes[0]} and {sizes[1]} do not pool to one size by a whole factor")
    first, second = (
        (F.max_pool2d(f, tuple(a // b for a, b in zip(f.shape[2:], small, strict=True))) if f.shape[2:] != small else f)
        .permute(0, 2, 3, 1)
        .flatten(1, 2)
        for f in (first_BMHW, second_BNHW)
    )
    return first.transpose(1, 2) @ second / first.shape[1]


def fsp_loss(teacher: list[Tensor], student: list[Tensor], weight: float, reduction: str) -> Tensor:
    """Eq. (2) with equal weights: the mean over images of the weighted squared distances of the FSP matrices.

    `reduction`: the squares of a matrix are summed, as the equation is written, or averaged over its entries.
    """
    squares = [F.mse_loss(s, t, reduction=reduction) for t, s in zip(teacher, student, strict=True)]
    return weight * sum(squares) / (len(teacher[0]) if reduction == "sum" else 1)


def draw_permutations(spec_seed: int, stream: str, settings: Fsp, network: Network) -> list[tuple[Tensor, Tensor]]:
    """The channel permutations of a shuffled teacher: for each matrix, one of its rows and one of its columns.

    `channel`: one permutation a tapped layer, used by both matrices that the layer takes part in. `tied`: the stem
    and the first section share one, as identity shortcuts would have it. `independent`: every matrix on its own.
    """
    drawn: dict[str, Tensor] = {}

    def permutation(tap: str, matrix: int, side: int) -> Tensor:
        channels = CifarResNet.channels(network, tap)
        match settings.shuffle:
            case "none":
                return torch.arange(channels)
            case "channel":
                key = tap
            case "tied":
                key = "section1" if tap in ("stem", "section1.first") else tap
            case "independent":
                key = f"matrix {matrix} side {side}"
        if key not in drawn:
            drawn[key] = torch.from_numpy(generator(spec_seed, stream, f"shuffle {key}").permutation(channels))
        return drawn[key]

    pairs = PAIRS[settings.layers]
    return [tuple(permutation(tap, m, side) for side, tap in enumerate(pair)) for m, pair in enumerate(pairs)]


class FspObjective(Objective):
    """Stage 1 of the FSP paper: the student's FSP matrices towards those of a frozen, perhaps shuffled, teacher."""

    def __init__(self, settings: Fsp, seed: int, stream: str, student: Network, teacher: Network) -> None:
        super().__init__()
        self.settings = settings
        self.pairs = PAIRS[settings.layers]
        self.student_taps = tuple(dict.fromkeys(tap for pair in self.pairs for tap in pair))
        for number, (rows, columns) in enumerate(draw_permutations(seed, stream, settings, teacher)):
            self.register_buffer(f"rows{number}", rows)
            self.register_buffer(f"columns{number}", columns)

    def targets(self, teacher: nn.Module, x: Tensor) -> list[Tensor]:
        """The teacher's FSP matrices, not shuffled: students with other permutations can share them."""
        return self._matrices(teacher, x)

    def forward(self, student: nn.Module, targets: list[Tensor], x: Tensor, y: Tensor, progress: Tensor) -> Tensor:
        if self.settings.shuffle != "none":
            targets = [
                g[:, getattr(self, f"rows{i}")[:, None], getattr(self, f"columns{i}")] for i, g in enumerate(targets)
            ]
        return fsp_loss(targets, self._matrices(student, x), self.settings.weight, self.settings.reduction)

    def _matrices(self, net: nn.Module, x: Tensor) -> list[Tensor]:
        taps = {name: float32(features) for name, features in net.taps(x, self.student_taps).items()}
        with torch.autocast(x.device.type, enabled=False):
            return [fsp_matrix(taps[a], taps[b]) for a, b in self.pairs]
