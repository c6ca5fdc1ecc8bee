"""The plain loop: how public distillation code trains, at its best. The oracle and the baseline of the engine.

Eager, float32, NCHW, torchvision transforms in a DataLoader, stock modules and optimiser, an optimiser step at a time,
FSP matrices by torch.bmm; for FitNets, maxout units by torch.max, and RMSProp as in pylearn2, a parameter at a time. It
shares no code with the library, which never imports it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

Outputs = tuple[list[Tensor], Tensor | None]


class Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.grows = channels_out > channels_in
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, 2 if self.grows else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grows:
            x = torch.cat([x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])], 1)
        return F.relu(out + x)


class ResNet(nn.Module):
    """A CIFAR ResNet whose parameters have the library's names; returns the four feature maps and the logits."""

    def __init__(self, depth: int, width: int, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        n = (depth - 2) // 6
        self.stem = nn.Sequential(
            nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.section1 = nn.Sequential(*(Block(width, width) for _ in range(n)))
        self.section2 = nn.Sequential(Block(width, 2 * width), *(Block(2 * width, 2 * width) for _ in range(n - 1)))
        self.section3 = nn.Sequential(Block(2 * width, 4 * width), *(Block(4 * width, 4 * width) for _ in range(n - 1)))
        self.linear = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Outputs:
        features = [self.stem(x)]
        for section in (self.section1, self.section2, self.section3):
            features.append(section(features[-1]))
        return features, self.linear(features[-1].mean((2, 3)))


class Maxout(nn.Module):
    """The maximum over the pieces of a channel, which are side by side, as in FitNets' own code; the first of equal ones."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.pieces)).max(2).values


def groups_of(weighted: nn.Module, rate: float, limit: float | None) -> list[dict]:
    """The parameter groups of a convolution or linear layer, for an optimiser."""
    return [{"params": [weighted.weight], "lr": rate, "limit": limit}, {"params": [weighted.bias], "lr": rate}]


class MaxoutNet(nn.Module):
    """A FitNet, or a teacher of FitNets, without dropout; `layers` have the keys that a preset gives them.

    Returns the image and the feature map after each layer; and the logits.
    """

    def __init__(self, layers: Sequence[Any], shape: tuple[int, int, int], classes: int = 10) -> None:
        super().__init__()
        self.layers = layers
        self.weighted = nn.ModuleList()
        x = torch.zeros(1, *shape)
        for layer in layers:
            if layer.conv:
                weighted = nn.Conv2d(x.shape[1], layer.conv * layer.pieces, layer.kernel, padding=layer.pad)
            else:
                weighted = nn.Linear(x.numel(), layer.full * layer.pieces)
            self.weighted.append(weighted)
            x = self.layer(weighted, layer, x)
        self.linear = nn.Linear(x.numel(), classes)

    def forward(self, x: Tensor, to: int | None = None) -> Outputs:
        """With `to` only the feature maps up to that layer, counted from 1, and no logits."""
        features = [x]
        for weighted, layer in zip(self.weighted[:to], self.layers, strict=False):
            features.append(self.layer(weighted, layer, features[-1]))
        return features, self.linear(features[-1].flatten(1)) if to is None else None

    def layer(self, weighted: nn.Module, layer: Any, x: Tensor) -> Tensor:
        x = Maxout(layer.pieces)(weighted(x.flatten(1) if layer.full else x))
        return self.pooled(x, layer.pool, layer.stride or layer.pool) if layer.pool else x

    def groups(self, rate: float, last_limit: float | None) -> list[dict]:
        """The parameter groups for an optimiser; `last_limit` is the linear layer's."""
        groups = groups_of(self.linear, rate, last_limit)
        for weighted, layer in zip(self.weighted, self.layers, strict=True):
            groups += groups_of(weighted, rate * layer.rate, layer.limit)
        return groups

    def pooled(self, x: Tensor, size: int, stride: int) -> Tensor:
        return F.max_pool2d(x, size, stride, ceil_mode=True)


class Rmsprop(torch.optim.Optimizer):
    """FitNets' optimiser; filters, or rows, of a group that has a `limit` are scaled down to that length after a step."""

    def __init__(self, groups: list[dict]) -> None:
        super().__init__(groups, {"limit": None})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p not in self.state:
                    self.state[p]["mean_square"] = torch.zeros_like(p)
                mean_square = self.state[p]["mean_square"]
                mean_square.mul_(0.9).addcmul_(p.grad, p.grad, value=0.1)
                p.addcdiv_(p.grad, mean_square.sqrt().clamp_(min=1e-5), value=-group["lr"])
                if group["limit"]:
                    lengths = p.flatten(1).norm(dim=1)
                    p.mul_((group["limit"] / lengths).clamp_(max=1).view(-1, *[1] * (p.dim() - 1)))


def fsp(first: Tensor, second: Tensor) -> Tensor:
    """FSP matrices (B, M, N) of feature maps (B, M, H, W) and (B, N, h, w)."""
    if first.shape[2] > second.shape[2]:
        first = F.max_pool2d(first, first.shape[2] // second.shape[2])
    return torch.bmm(first.flatten(2), second.flatten(2).transpose(1, 2)) / second[0, 0].numel()


def fsp_by_broadcasting(first: Tensor, second: Tensor) -> Tensor:
    """The same as much-cited public code does it, by way of all products (B, M, N, h w)."""
    if first.shape[2] > second.shape[2]:
        first = F.max_pool2d(first, first.shape[2] // second.shape[2])
    return (first.flatten(2).unsqueeze(2) * second.flatten(2).unsqueeze(1)).mean(-1)


def fsp_loss(student: Outputs, teacher: Outputs, matrix: Callable = fsp) -> Tensor:
    """Equation (2) of the FSP paper, squares averaged over a matrix."""
    return sum(
        F.mse_loss(matrix(s1, s2), matrix(t1, t2))
        for s1, s2, t1, t2 in zip(student[0], student[0][1:], teacher[0], teacher[0][1:], strict=False)
    )


def hint_loss(student: Outputs, teacher: Outputs, regressors: nn.ModuleDict, hint: int | None = None) -> Tensor:
    """Equation (3) of FitNets, at the ends of the sections, or layers, that have a regressor; `hint`: the teacher's layer."""
    pairs = [(r(student[0][int(name[-1])]), teacher[0][hint or int(name[-1])]) for name, r in regressors.items()]
    return sum(0.5 * F.mse_loss(guided, target, reduction="sum") / len(target) for guided, target in pairs)


def kd_loss(student: Outputs, teacher: Outputs, y: Tensor, weight: float, temperature: float = 3.0) -> Tensor:
    """Equation (2) of FitNets."""
    soft = F.softmax(teacher[1] / temperature, 1)
    log = F.log_softmax(student[1] / temperature, 1)
    return F.cross_entropy(student[1], y) - weight * (soft * log).sum(1).mean()


def step(
    net: Callable[[Tensor], Outputs],
    teacher: Callable[[Tensor], Outputs] | None,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    loss_of: Callable,
) -> Tensor:
    """One iteration; `loss_of` is called with the outputs of student and teacher, and the labels."""
    with torch.no_grad():
        targets = teacher(x) if teacher is not None else None
    loss = loss_of(net(x), targets, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


class _Pictures(Dataset):
    def __init__(self, images_NHWC: np.ndarray, labels_N: np.ndarray, transform: Callable) -> None:
        self.images, self.labels, self.transform = images_NHWC, labels_N, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def crops(size: int) -> Callable:
    """Random crops of padded images, uint8."""
    return transforms.Compose([transforms.ToPILImage(), transforms.RandomCrop(size, padding=4), transforms.ToTensor()])


def flips() -> Callable:
    """Random flips of whitened images, float32."""
    return transforms.Compose([transforms.ToTensor(), transforms.RandomHorizontalFlip()])


def batches(
    images_NHWC: np.ndarray,
    labels_N: np.ndarray,
    transform: Callable,
    size: int,
    device: torch.device,
    workers: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches."""
    loader = DataLoader(
        _Pictures(images_NHWC, labels_N, transform),
        size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # as in a process that was not spawned
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
    )
    while True:
        for x, y in loader:
            yield x.to(device, non_blocking=True), y.to(device, non_blocking=True)
