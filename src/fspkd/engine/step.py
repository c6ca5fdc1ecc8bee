"""Iterations on the device: batch, forward, backward and optimiser, without involving the host."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from fspkd.engine.batches import Batches, batch_draws
from fspkd.engine.capture import Captured
from fspkd.engine.device import new_stream
from fspkd.engine.member import Member
from fspkd.engine.schedule import is_constant, learning_rate, momentum, progress
from fspkd.engine.tabulated import Tabulated

BLOCK = {"cuda": 500, "cpu": 1}  # iterations queued on a device at once
BLOCK_BYTES = 2**28  # of their images, at most


class Step:
    """The iterations of members that see the same batches and the same teacher, whose targets are computed once for all.

    Members that share a step have equal schedules and are at the same iteration; on a GPU they are parallel branches. A
    block of inputs is put on the device at once, and an iteration finds its own by a counter that is there too. So on a
    GPU every iteration is the same CUDA graph; a block is queued in one go and its measurements are fetched in one go.
    """

    def __init__(self, members: list[Member], stream: torch.cuda.Stream | None, block: int | None) -> None:
        self.members, self.stream = members, stream
        first = members[0]
        self.teachers_stream = new_stream(first.images.device) if first.teacher else None
        images, self.spec, self.device = first.images, first.spec, first.images.device
        self.batches, self.to_input = Batches(images, self.spec), images.to_input
        size = self.spec.training.batch_size
        shape = (size, *images.size, images.channels)
        size_bytes = math.prod(shape) * images.train.element_size()
        self.longest = longest = max(1, min(BLOCK[self.device.type], BLOCK_BYTES // size_bytes))
        self.block = min(block or longest, longest)  # iterations to draw next; the number changes no bit
        self.images = torch.zeros(longest, *shape, dtype=images.train.dtype, device=self.device)
        self.labels = torch.zeros(longest, size, dtype=torch.int64, device=self.device)
        self.progress = torch.zeros(longest, device=self.device)
        # Rate and momentum of each iteration, if they change within a block.
        self.scheduled = None if is_constant(self.spec.schedule) else torch.zeros(longest, 2, device=self.device)
        self.measured = torch.zeros(longest, len(members), 2, device=self.device)
        self.table = Tabulated.of(first, self.batches)  # of the teacher's targets, indexed by how a batch was drawn
        self.draws = torch.zeros(longest, size, 4, dtype=torch.int64, device=self.device) if self.table else None
        self.position = torch.zeros(1, dtype=torch.int64, device=self.device)  # in the block
        self.block_first = torch.zeros(1, dtype=torch.int64, device=self.device)  # the iteration at position 0
        self._randomise()
        self.iterate = Captured(self._iteration, self._changed, stream)
        self.loaded = 0
        self._draw(first.done)
        if stream:
            stream.wait_stream(torch.cuda.current_stream())

    def load(self) -> int:
        """Copy to the device what the next iterations need, up to the members' next stop or one block; return their number.

        The caller then calls `iterate` that many times.
        """
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            count = self.loaded = len(self.drawn)
            drawn = self.drawn.to(self.device, non_blocking=True)
            if self.draws is not None:
                self.draws[:count].copy_(drawn)
            images, labels = self.batches.make(drawn)
            self.images[:count].copy_(images)
            self.labels[:count].copy_(labels)
            self.progress[:count].copy_(self.drawn_progress, non_blocking=True)
            if self.scheduled is None:
                self._follow(*self._scheduled_at(self.first))
            else:
                self.scheduled[:count].copy_(self.drawn_scheduled, non_blocking=True)
            self.block_first.fill_(self.first)
            self.position.zero_()
        return count

    def prepare(self) -> None:
        """Draw the random numbers of the next load while the device works on this one."""
        if self.first + self.loaded < self.spec.schedule[-1].until:
            self._draw(self.first + self.loaded)

    def fetch(self) -> list[list[tuple[float, float]]]:
        """Wait for the iterations; return, for each member, the loss and gradient norm of each of them."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            return self.measured[: self.loaded].transpose(0, 1).tolist()

    def _scheduled_at(self, iteration: int) -> tuple[float, float]:
        """An iteration's learning rate and momentum."""
        schedule, own = self.spec.schedule, getattr(self.spec.training.optimizer, "momentum", 0.0)
        return learning_rate(schedule, iteration), momentum(schedule, iteration, own)

    def _follow(self, rate: Tensor | float, momentum: Tensor | float) -> None:
        """Set the optimizers' learning rate and momentum."""
        for member in self.members:
            member.optimizer.rate.fill_(rate)
            if member.optimizer.factor is not None:
                member.optimizer.factor.fill_(momentum)

    def _randomise(self) -> None:
        """Have the nets draw their random numbers by the iteration number on the device."""
        first, position = self.block_first, self.position  # not `self`, which a net would keep alive
        for member in self.members:
            member.net.randomise(member.spec.draws, lambda: first + position)

    def _draw(self, first: int) -> None:
        self.first = first
        count = min(self.block, self.members[0].next_stop(first) - first)
        self.drawn = self.batches.draw(first, count)
        iterations = range(first, first + count)
        self.drawn_progress = torch.tensor([progress(self.spec.schedule, i) for i in iterations])
        if self.stream:
            self.drawn, self.drawn_progress = self.drawn.pin_memory(), self.drawn_progress.pin_memory()
        if self.scheduled is not None:
            drawn = torch.tensor([self._scheduled_at(i) for i in iterations])
            self.drawn_scheduled = drawn.pin_memory() if self.stream else drawn

    def _iteration(self) -> None:
        x = self.to_input(self.images.index_select(0, self.position).squeeze(0))
        y = self.labels.index_select(0, self.position).squeeze(0)
        part = self.progress.index_select(0, self.position).squeeze(0)
        if self.scheduled is not None:
            self._follow(*self.scheduled.index_select(0, self.position).squeeze(0).unbind())
        measured = []
        for member, loss in self.gradients(x, y, part):
            measured += [loss, nn.utils.get_total_norm([p.grad for p in member.optimizer.parameters])]
            member.optimizer.step()
        self.measured.index_copy_(0, self.position, torch.stack(measured).view(1, -1, 2))
        self.position.add_(1)

    def gradients(self, images_BCHW: Tensor, labels_B: Tensor, progress: Tensor) -> Iterator[tuple[Member, Tensor]]:
        """Yield each member with its loss once its gradients are there; what the caller then queues is on its branch.

        On a GPU the teacher runs beside the students' forward passes, and the students beside each other.
        """
        first = self.members[0]
        with self._branches() as (teachers, *branches):
            with teachers:
                if self.table:
                    targets = self.table.targets(self.draws.index_select(0, self.position).squeeze(0))
                else:
                    targets = first.targets(images_BCHW)
            for member, branch in zip(self.members, branches, strict=True):
                with branch:
                    yield member, member.backward(images_BCHW, labels_B, progress, targets, self._await_targets)

    def _await_targets(self) -> None:
        if self.teachers_stream:
            torch.cuda.current_stream().wait_stream(self.teachers_stream)

    @contextmanager
    def _branches(self) -> Iterator[list]:
        """A context for the teacher and each member, whose queued work runs parallel to the others'; joined at the end."""
        if self.stream is None:
            yield [nullcontext(), *(nullcontext() for _ in self.members)]
            return
        students = [member.stream for member in self.members[1:]]
        others = [stream for stream in (self.teachers_stream, *students) if stream]
        for stream in others:
            stream.wait_stream(self.stream)
        yield [torch.cuda.stream(stream) for stream in (self.teachers_stream, self.stream, *students)]
        for stream in others:
            self.stream.wait_stream(stream)

    def _changed(self) -> list[Tensor]:
        return [self.position, self.measured, *(tensor for member in self.members for tensor in member.changed())]


def steps_of(members: list[Member], block: int | None = None) -> list[Step]:
    """Steps of members that see the same batches and teacher, are at the same iteration and train alike.

    `block`: iterations that are first queued at once; by default as many as the device takes.
    """
    groups: dict[tuple, list[Member]] = {}
    for member in members:
        spec = member.spec
        alike = (batch_draws(spec), spec.teacher, spec.method.method, spec.iterations, spec.training, member.done)
        groups.setdefault(alike, []).append(member)
    return [Step(group, group[0].stream, block) for group in groups.values()]
