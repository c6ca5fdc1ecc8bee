"""What a frozen teacher gives for each training image, computed once where nets see the same few views of it again."""

from typing import Any

import torch
from torch import Tensor

from fspkd.engine.batches import Batches
from fspkd.engine.member import Member
from fspkd.engine.trees import each

BUDGET = 4 * 2**30  # bytes of a table, at most


class Rows:
    """A tensor for each view of a training image: of the shape, type and order in memory that a batch of them has.

    What a teacher computed in lower precision is kept in it, where nothing is lost by that.
    """

    def __init__(self, views: int, batch: Tensor, precision: torch.dtype) -> None:
        self.dtype = batch.dtype
        self.channels_last = batch.dim() == 4 and batch.is_contiguous(memory_format=torch.channels_last)
        lossless = torch.equal(batch.to(precision).to(batch.dtype), batch)
        shape = self._in_memory(batch).shape[1:]
        self.values = torch.empty(views, *shape, dtype=precision if lossless else batch.dtype, device=batch.device)

    def put(self, first: int, batch: Tensor) -> None:
        self.values[first : first + len(batch)].copy_(self._in_memory(batch))

    def get(self, keys_B: Tensor) -> Tensor:
        batch = self.values.index_select(0, keys_B).to(self.dtype)
        return batch.permute(0, 3, 1, 2) if self.channels_last else batch

    def _in_memory(self, batch: Tensor) -> Tensor:
        return batch.permute(0, 2, 3, 1) if self.channels_last else batch


class Tabulated:
    """A table of a method's targets for all training images and, where these are flipped, for their mirror images.

    It is filled in batches of the training's size, so that its rows are the bits that computing them each time gives.
    """

    def __init__(self, member: Member, batches: Batches) -> None:
        self.member, self.batches, self.count = member, batches, member.images.count
        self.size = member.spec.training.batch_size
        self.views = _views(member)
        batch = self._batch(0)
        self.rows = each(lambda t: Rows(self.views, t, member.precision), batch)
        for first in range(0, self.views, self.size):
            left = min(self.size, self.views - first)
            each(lambda rows, t, at=first, n=left: rows.put(at, t[:n]), self.rows, self._batch(first))

    @classmethod
    def of(cls, member: Member, batches: Batches) -> "Tabulated | None":
        """The table for a member's training from here on; None where computing targets each time is as good, or must be.

        An image has one view, or two, where it is not cropped. A table pays where its views are fewer than the images that
        are left of the training, and it has to fit into BUDGET.
        """
        spec, images = member.spec, member.images
        if not (member.objective.teacher_taps and spec.method.targets_are_of_images) or any(images.margins):
            return None
        if _views(member) >= (spec.iterations - member.done) * spec.training.batch_size:
            return None
        return cls(member, batches) if _views(member) * _bytes_of_a_row(member) <= _budget(images.device) else None

    def targets(self, drawn_B4: Tensor) -> Any:
        """The targets of a batch as it was drawn: image, top, left, flip."""
        keys = drawn_B4[:, 0] + self.count * drawn_B4[:, 3]
        return each(lambda rows: rows.get(keys), self.rows)

    def _batch(self, first: int) -> Any:
        """The targets of a whole batch of views; after the last of them come the first ones again."""
        keys = (first + torch.arange(self.size, device=self.member.images.device)) % self.views
        drawn = torch.zeros(1, self.size, 4, dtype=torch.int64, device=keys.device)
        drawn[0, :, 0], drawn[0, :, 3] = keys % self.count, keys // self.count
        images, _ = self.batches.make(drawn)
        return self.member.targets(self.member.images.to_input(images[0]))


def _budget(device: torch.device) -> int:
    """Bytes that a table may have: on a GPU, which may be a slice of one, a quarter of those that are free."""
    return BUDGET if device.type == "cpu" else min(BUDGET, torch.cuda.mem_get_info(device)[0] // 4)


def _views(member: Member) -> int:
    return member.images.count * (2 if member.spec.augment.flip else 1)


def _bytes_of_a_row(member: Member) -> int:
    sizes: list[int] = []
    height, width = member.images.size
    image = torch.zeros(1, height, width, member.images.channels, dtype=member.images.train.dtype)
    batch = member.targets(member.images.to_input(image.to(member.images.device)))
    each(lambda t: sizes.append(Rows(1, t, member.precision).values.nbytes), batch)
    return sum(sizes)
