"""Work queued on a device as a CUDA graph, since launching many small kernels costs more than running them."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

from fspkd.errors import UserError

WARM_UP = 3  # calls before the capture, in which cuDNN and the allocator settle


class Captured:
    """A function without arguments or result that works in place on tensors whose addresses do not change.

    On a GPU its first call captures it, and this and all later calls replay the graph on `stream`, without waiting.
    Warming up changes nothing: the tensors that `changes` lists get their values back. On a CPU it is just called. If
    one of these has moved after the first call, which a graph would not see, UserError is raised on either device.
    """

    def __init__(
        self, function: Callable[[], None], changes: Callable[[], list[Tensor]], stream: torch.cuda.Stream | None
    ) -> None:
        self.function, self.changes, self.stream = function, changes, stream
        self.graph: torch.cuda.CUDAGraph | None = None
        self.is_checked = False

    def __call__(self) -> None:
        if self.stream is None:
            self._call()
            return
        if self.graph is None:
            self._capture()
        with torch.cuda.stream(self.stream):
            self.graph.replay()

    def _capture(self) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            with torch.no_grad():
                held = [tensor.clone() for tensor in self.changes()]
            for _ in range(WARM_UP):
                self._call()
                with torch.no_grad():
                    for tensor, value in zip(self.changes(), held, strict=True):
                        tensor.copy_(value)
        torch.cuda.synchronize()
        gc.collect()  # graphs that are no longer referenced must not be freed during the capture
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.function()

    def _call(self) -> None:
        if self.is_checked:
            self.function()
            return
        before = self.changes()  # kept, so that no other tensor gets their addresses
        self.function()
        self.is_checked = True
        if any(old.data_ptr() != new.data_ptr() for old, new in zip(before, self.changes(), strict=True)):
            raise UserError(
                "an iteration gives a buffer of a module a new tensor, but a GPU would keep using the old one. Change the "
                "buffer in place, such as by buffer.copy_(...)."
            )
