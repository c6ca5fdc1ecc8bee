"""The plain loop on the cases of the benchmark."""

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import plain
import torch
from cases import BATCH, CASES
from torch import nn

from fspkd.data.packed import load_packed
from fspkd.runs.spec import Run

EPOCH = 10_000  # images, at least


class Plainly(NamedTuple):
    """What the plain loop needs: nets as functions of images, an optimiser, a loss, and an image transform."""

    student: Callable
    teacher: Callable | None
    optimizer: torch.optim.Optimizer
    loss_of: Callable
    transform: Callable


def plain_way(case: str, runs: list[Run], on: torch.device, matrix: Callable = plain.fsp) -> Callable[[int], None]:
    """Members one after the other, as separate commands would train them."""
    # The process was set up for the engine, whose algorithms have to give the same bits. TF32 stays off for both.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    data = load_packed(runs[0].data.path)
    made = _plain_fitnet(runs[0], on) if CASES[case][0] == "fitnets" else _plain_resnet(case, runs[0], on, matrix)
    often = -(-EPOCH // len(data.labels["train"]))  # so that a loader seldom restarts
    images, labels = (np.concatenate([of["train"]] * often) for of in (data.images, data.labels))
    workers = 2 if on.type == "cpu" else max(2, len(os.sched_getaffinity(0)) // 2)
    stream = plain.batches(images, labels, made.transform, BATCH, on, workers)

    def go(iterations: int) -> None:
        for _ in range(iterations * len(runs)):
            loss = plain.step(made.student, made.teacher, made.optimizer, *next(stream), made.loss_of)
        loss.item()

    return go


def _plain_resnet(case: str, run: Run, on: torch.device, matrix: Callable) -> Plainly:
    spec = run.spec

    def net() -> plain.ResNet:
        return plain.ResNet(spec.network.depth, spec.network.width).to(on)

    regressors = nn.ModuleDict()
    if case == "stage 1, hints":
        widths = {f"section{i}": spec.network.width * 2 ** (i - 1) for i in (1, 2, 3)}
        regressors = nn.ModuleDict({k: nn.Sequential(nn.Conv2d(w, w, 1), nn.ReLU()) for k, w in widths.items()}).to(on)
    teacher = None if case == "scratch" else net().eval().requires_grad_(False)
    losses = {
        "scratch": lambda student, _, y: nn.functional.cross_entropy(student[1], y),
        "stage 1, FSP": lambda student, target, _: plain.fsp_loss(student, target, matrix),
        "stage 1, hints": lambda student, target, _: plain.hint_loss(student, target, regressors),
        "stage 2, KD": lambda student, target, y: plain.kd_loss(student, target, y, 4.0),
    }
    student = net().train()
    parameters = [*student.parameters(), *regressors.parameters()]
    rate = spec.schedule[0].rate
    optimizer = torch.optim.SGD(
        parameters, rate, spec.training.optimizer.momentum, weight_decay=spec.training.optimizer.weight_decay
    )
    return Plainly(student, teacher, optimizer, losses[case], plain.crops(32))


def _plain_fitnet(run: Run, on: torch.device) -> Plainly:
    spec, rate = run.spec, run.spec.schedule[0].rate
    networks = spec.network, run.teacher.spec.network
    student, teacher = (plain.MaxoutNet(network.layers, (3, 32, 32)).to(on) for network in networks)
    teacher.eval().requires_grad_(False)
    groups = student.groups(rate, spec.network.softmax_limit)
    if spec.stage == 2:
        optimizer = plain.Rmsprop(groups)
        return Plainly(student, teacher, optimizer, partial(plain.kd_loss, weight=4.0), plain.flips())
    taps = spec.method.guided, spec.method.hint
    channels, (guided, hint) = networks[0].channels(taps[0]), (int(tap.removeprefix("layer")) for tap in taps)
    kernel = networks[0].size(taps[0], 32) - networks[1].size(taps[1], 32) + 1
    layer = networks[1].layer(taps[1])
    conv = nn.Conv2d(channels, layer.conv * layer.pieces, kernel).to(on)
    regressors = nn.ModuleDict({taps[0]: nn.Sequential(conv, plain.Maxout(layer.pieces))})
    optimizer = plain.Rmsprop([*groups, *plain.groups_of(conv, rate, spec.method.regressor_limit)])
    return Plainly(
        partial(student, to=guided),
        partial(teacher, to=hint),
        optimizer,
        lambda student, target, _: plain.hint_loss(student, target, regressors, hint),
        plain.flips(),
    )


WAYS = {"plain": plain_way, "broadcasting": partial(plain_way, matrix=plain.fsp_by_broadcasting)}
