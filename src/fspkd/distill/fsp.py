"""FSP matrices and their loss [Yim et al., CVPR 2017, eqs. 1 and 2]."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, ClassVar, Literal

from fspkd.distill.method import TaughtMethod
from fspkd.lazy import torch
from fspkd.settings import PositiveReal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

    from fspkd.draws import Draws
    from fspkd.models.net import Net
    from fspkd.networks.residual import ResidualNetwork


def fsp_matrix(first_BMHW: Tensor, second_BNHW: Tensor) -> Tensor:
    """The FSP matrix of two feature maps, eq. (1): G[i, j] = sum over s, t of F1[s, t, i] F2[s, t, j] / (h w).

    Gives (B, M, N), a matrix for each image. If the maps differ in spatial size, the larger is max-pooled down; raises
    ValueError if the ratio of sizes is not whole, or the maps are of different numbers of images.
    """
    if len(first_BMHW) != len(second_BNHW):
        raise ValueError(f"feature maps of different numbers of images: {len(first_BMHW)} and {len(second_BNHW)}")
    sizes = first_BMHW.shape[2:], second_BNHW.shape[2:]
    small = min(sizes)
    if any(a % b for size in sizes for a, b in zip(size, small, strict=True)):
        raise ValueError(f"feature maps of {sizes[0]} and {sizes[1]} do not pool to one size by a whole factor")

    def flat(features: Tensor) -> Tensor:
        factors = tuple(a // b for a, b in zip(features.shape[2:], small, strict=True))
        pooled = torch.nn.functional.max_pool2d(features, factors) if features.shape[2:] != small else features
        return pooled.permute(0, 2, 3, 1).flatten(1, 2)

    first = flat(first_BMHW)
    return first.transpose(1, 2) @ flat(second_BNHW) / first.shape[1]


def fsp_loss(teacher: list[Tensor], student: list[Tensor], weight: float, reduction: str) -> Tensor:
    """Eq. (2) with equal weights: the mean over images of the weighted squared distances between FSP matrices.

    `reduction`: `sum`, the squares of a matrix are summed, as in the equation, or `mean`, averaged over its entries.
    Raises ValueError for any other, or for matrices of different shapes.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction = {reduction!r}: must be sum or mean")
    squares = []
    for t, s in zip(teacher, student, strict=True):
        if t.shape != s.shape:  # which PyTorch might broadcast
            raise ValueError(f"FSP matrices of different shapes: {tuple(t.shape)} and {tuple(s.shape)}")
        squares.append(torch.nn.functional.mse_loss(s, t, reduction=reduction))
    return weight * sum(squares) / (len(teacher[0]) if reduction == "sum" else 1)


class Fsp(TaughtMethod):
    """The FSP paper's stage 1: match the student's FSP matrices to those of a frozen, optionally shuffled teacher."""

    targets_are_of_images: ClassVar[bool] = True
    method: Literal["fsp"]
    """how the stage trains"""
    layers: Literal["section", "module"] = "section"
    """the two layers of a section's matrix: its input and output, or the outputs of its first and last module"""
    reduction: Literal["mean", "sum"] = "mean"
    """how the squares of a matrix are combined: summed, as in eq. 2, or averaged over its entries"""
    weight: PositiveReal = 1.0
    """lambda of eq. 2, the same for all matrices"""
    shuffle: Literal["none", "channel", "tied", "independent"] = "none"
    """how the teacher's channels are permuted: one permutation per tapped layer, used by both matrices that the layer is
    in (`channel`); likewise, but the stem and the first section share one, as identity shortcuts would require (`tied`;
    with `layers: module` the two layers of the first section, but not those of the others); each matrix's rows and columns
    separately (`independent`)"""

    def problem(self, student: ResidualNetwork, teacher: ResidualNetwork) -> str | None:
        if problem := self.sections_problem((1,), student, teacher):
            return problem
        theirs, ours = ([network.channels(tap) for tap in self.student_taps(network)] for network in (teacher, student))
        if theirs != ours:
            return (
                f"learns FSP matrices of layers with {', '.join(map(str, theirs))} channels with a net that has "
                f"{', '.join(map(str, ours))} there: the matrices differ in shape. Give both networks the same width."
            )
        if self.layers == "module" and min(*student.modules, *teacher.modules) == 1:
            return "layers = 'module' needs sections of two modules or more, and one has a single one. Use layers: section."
        return None

    def size_problem(self, student: ResidualNetwork, teacher: ResidualNetwork, size: tuple[int, int]) -> str | None:
        for network, pixels in product((student, teacher), size):
            for large, small in self.pairs(network.size(tap, pixels) for tap in self.student_taps(network)):
                if large % small:
                    factor = network.stem_stride * 2 ** (len(network.sections) - 1)
                    return (
                        f"feature maps of {large} and {small} pixels do not pool to one size by a whole factor, as FSP "
                        f"matrices need. Give the data set a 'size', or a 'crop', that {factor} divides."
                    )
        return None

    def student_taps(self, student: ResidualNetwork) -> tuple[str, ...]:
        if self.layers == "module":
            return tuple(tap for section in student.sections for tap in (f"{section}.first", section))
        return ("stem", *student.sections)

    def pairs(self, taps: Iterable) -> list[tuple]:
        """The two taps, or the values given for them, of each matrix: one matrix per section."""
        taps = tuple(taps)
        return list(zip(taps[::2], taps[1::2], strict=True)) if self.layers == "module" else list(pairwise(taps))

    def permutations(self, draws: Draws, network: ResidualNetwork) -> list[tuple[Tensor, Tensor]]:
        """The channel permutations of a shuffled teacher: for each matrix, one of its rows and one of its columns."""
        drawn: dict[str, Tensor] = {}

        def permutation(tap: str, matrix: int, side: int) -> Tensor:
            channels = network.channels(tap)
            match self.shuffle:
                case "none":
                    return torch.arange(channels)
                case "channel":
                    key = tap
                case "tied":
                    key = "section1" if tap in ("stem", "section1.first") else tap
                case "independent":
                    key = f"matrix {matrix} side {side}"
            if key not in drawn:
                drawn[key] = torch.from_numpy(draws.generator(f"shuffle {key}").permutation(channels))
            return drawn[key]

        pairs = enumerate(self.pairs(self.student_taps(network)))
        return [tuple(permutation(tap, m, side) for side, tap in enumerate(pair)) for m, pair in pairs]

    def modules(self, draws: Draws, student: Net, teacher: Net) -> dict[str, nn.Module]:
        """For each matrix, the permutations `rows` and `columns` of the teacher."""
        matrices = {}
        for number, (rows, columns) in enumerate(self.permutations(draws, teacher.network)):
            matrices[f"matrix{number}"] = permuted = torch.nn.Module()
            permuted.register_buffer("rows", rows)
            permuted.register_buffer("columns", columns)
        return matrices

    def targets(self, taps: dict[str, Tensor]) -> list[Tensor]:
        """The teacher's FSP matrices, not shuffled: students with different permutations can share them."""
        return self._matrices(taps)

    def loss(
        self,
        taps: dict[str, Tensor],
        modules: dict[str, nn.Module],
        targets: list[Tensor],
        labels_B: Tensor,
        progress: Tensor,
    ) -> Tensor:
        if self.shuffle != "none":
            shuffles = zip(targets, modules.values(), strict=True)
            targets = [matrix[:, p.rows[:, None], p.columns] for matrix, p in shuffles]
        return fsp_loss(targets, self._matrices(taps), self.weight, self.reduction)

    def _matrices(self, taps: dict[str, Tensor]) -> list[Tensor]:
        return [fsp_matrix(first, second) for first, second in self.pairs(taps.values())]
