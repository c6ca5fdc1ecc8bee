"""A frozen teacher's targets for each training image, computed once if nets see the same few views of it repeatedly."""

from typing import Any

import psutil
import torch
from torch import Tensor

from fspkd.engine.batches import Batches
from fspkd.engine.member import Member
from fspkd.engine.trees import each

BUDGET = 4 * 2**30  # bytes of a table, at most


class Rows:
    """A tensor for each view of a training image, with the shape, dtype and memory format of a batch of them.

    What a teacher computed in lower precision is stored in it, if nothing is lost by that.
    """

    def __init__(self, views: int, batch: Tensor, precision: torch.dtype) -> None:
        self.dtype = batch.dtype
        self.channels_last = batch.dim() == 4 and batch.is_contiguous(memory_format=torch.channels_last)
        lossless = torch.equal(batch.to(precision).to(batch.dtype), batch)
        shape = self._in_memory(batch).shape[1:]
        self.values = torch.empty(views, *shape, dtype=precision if lossless else batch.dtype, device=batch.device)

    def put(self, first: int, batch: Tensor) -> None:
        """Set the rows of consecutive views, from `first` on."""
        self.values[first : first + len(batch)].copy_(self._in_memory(batch))

    def get(self, keys_B: Tensor) -> Tensor:
        """A batch of rows."""
        batch = self.values.index_select(0, keys_B).to(self.dtype)
        return batch.permute(0, 3, 1, 2) if self.channels_last else batch

    def _in_memory(self, batch: Tensor) -> Tensor:
        return batch.permute(0, 2, 3, 1) if self.channels_last else batch


class Tabulated:
    """A table of a method's targets for all training images and, where these are flipped, for their mirror images.

    It is filled in batches of the training's size, and only if an image's targets are the same bits at any place in a
    batch, so that its rows are the bits that computing them each time gives.
    """

    def __init__(self, member: Member, batches: Batches) -> None:
        self.member, self.batches, self.count = member, batches, member.images.count
        self.size = member.spec.training.batch_size
        self.views = _views(member)
        batch = _targets(member, batches, self._keys(0))
        self.rows = each(lambda t: Rows(self.views, t, member.precision), batch)
        for first in range(0, self.views, self.size):
            left = min(self.size, self.views - first)
            batch = _targets(member, batches, self._keys(first))
            each(lambda rows, t, at=first, n=left: rows.put(at, t[:n]), self.rows, batch)

    @classmethod
    def of(cls, member: Member, batches: Batches) -> "Tabulated | None":
        """The table for the rest of a member's training; None if computing targets each time is as good, or necessary.

        An image that is not cropped has one view, or two with flips. A table pays if its views are fewer than the images
        that are left of the training, and it has to fit into the free memory.
        """
        spec, images = member.spec, member.images
        if not (member.objective.teacher_taps and spec.method.targets_are_of_images) or any(images.margins):
            return None
        if _views(member) >= (spec.iterations - member.done) * spec.training.batch_size:
            return None
        if _views(member) * _bytes_of_a_row(member) > _budget(images.device) or _depend_on_place(member, batches):
            return None
        return cls(member, batches)

    def targets(self, drawn_B4: Tensor) -> Any:
        """The targets of a drawn batch: image, top, left, flip."""
        keys = drawn_B4[:, 0] + self.count * drawn_B4[:, 3]
        return each(lambda rows: rows.get(keys), self.rows)

    def _keys(self, first: int) -> Tensor:
        """The keys of a whole batch of views; after the last view come the first ones again."""
        return (first + torch.arange(self.size, device=self.member.images.device)) % self.views


def _targets(member: Member, batches: Batches, keys_B: Tensor) -> Any:
    """Compute the targets of a batch of views."""
    drawn = torch.zeros(1, len(keys_B), 4, dtype=torch.int64, device=keys_B.device)
    drawn[0, :, 0], drawn[0, :, 3] = keys_B % member.images.count, keys_B // member.images.count
    images, _ = batches.make(drawn)
    return member.targets(member.images.to_input(images[0]))


def _depend_on_place(member: Member, batches: Batches) -> bool:
    """Whether targets' bits depend on the place in a batch, as with few outputs and images they may on a CPU."""
    keys = torch.arange(member.spec.training.batch_size, device=member.images.device) % _views(member)
    differ: list[bool] = []
    reversed_ = _targets(member, batches, keys.flip(0))
    each(lambda a, b: differ.append(not torch.equal(a, b.flip(0))), _targets(member, batches, keys), reversed_)
    return any(differ)


def _budget(device: torch.device) -> int:
    """Bytes that a table may take, BUDGET at most: half of the free memory, or a quarter on a GPU, which may be a slice."""
    if device.type == "cpu":
        return min(BUDGET, psutil.virtual_memory().available // 2)
    return min(BUDGET, torch.cuda.mem_get_info(device)[0] // 4)


def _views(member: Member) -> int:
    return member.images.count * (2 if member.spec.augment.flip else 1)


def _bytes_of_a_row(member: Member) -> int:
    sizes: list[int] = []
    height, width = member.images.size
    image = torch.zeros(1, height, width, member.images.channels, dtype=member.images.train.dtype)
    batch = member.targets(member.images.to_input(image.to(member.images.device)))
    each(lambda t: sizes.append(Rows(1, t, member.precision).values.nbytes), batch)
    return sum(sizes)
