"""Batch norm, with the ReLU after it if one follows: on a CPU both are computed in as few passes as possible."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fspkd.models.kernels import ADD_RELU, NOTHING, RELU, Kernels, kernels

LAST = torch.channels_last


class BatchNorm(nn.BatchNorm2d):
    """nn.BatchNorm2d without its count of batches, which nothing reads and which costs one kernel per layer in each step."""

    def forward(self, x: Tensor) -> Tensor:
        return self._computed(x, NOTHING, None)

    def _computed(self, x: Tensor, then: int, plus: Tensor | None) -> Tensor:
        """x normalised and, unless `then` is NOTHING, with `plus` and the ReLU."""
        if self.training and self._fits(x, plus) and (found := kernels(x.dtype)):
            return _Fused.apply(x, plus, self.weight, self.bias, self, then, found)
        y = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return y if then == NOTHING else _add_relu(y, plus)

    def _fits(self, x: Tensor, plus: Tensor | None) -> bool:
        """Whether the kernels can take these; PyTorch computes, or rejects, what they cannot."""
        own = (self.weight, self.bias, self.running_mean, self.running_var)
        if x.device.type != "cpu" or x.dim() != 4 or x.shape[1] != self.num_features or x.numel() <= x.shape[1]:
            return False
        return _same_shape(x, plus) and all(tensor is not None and tensor.dtype == torch.float32 for tensor in own)

    def folded(self) -> nn.Module:
        """What replaces it once it is folded into the convolution before it."""
        return nn.Identity()


class BatchNormReLU(BatchNorm):
    """max(0, batch_norm(x) + plus), with an optional `plus`: (B, C, H, W), both, to (B, C, H, W)."""

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        return self._computed(x, RELU if plus is None else ADD_RELU, plus)

    def folded(self) -> nn.Module:
        return AddReLU()


class AddReLU(nn.Module):
    """max(0, x + plus), with an optional `plus`; overwrites x."""

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        in_place = x.is_contiguous(memory_format=LAST) and not torch.is_grad_enabled() and _same_shape(x, plus)
        if x.device.type == "cpu" and in_place and (found := kernels(x.dtype)):
            plus = None if plus is None else plus.to(x.dtype).contiguous(memory_format=LAST)
            found.add_relu(*_places(x, plus), x.numel())
            return x
        return _add_relu(x, plus)


def _add_relu(x: Tensor, plus: Tensor | None) -> Tensor:
    return F.relu(x if plus is None else x.add_(plus), inplace=True)


def _same_shape(x: Tensor, plus: Tensor | None) -> bool:
    return plus is None or plus.shape == x.shape


class _Fused(torch.autograd.Function):
    """A batch norm in training, and what follows it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        plus: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        norm: BatchNorm,
        then: int,
        found: Kernels,
    ) -> Tensor:
        x = x.contiguous(memory_format=LAST)
        plus = None if plus is None else plus.to(x.dtype).contiguous(memory_format=LAST)
        z, mean, inverse = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
        numbers = *_rows_and_columns(x), norm.eps, norm.momentum
        running = norm.running_mean, norm.running_var
        found.forward(then, *_places(x, plus, weight, bias), *numbers, *_places(*running, z, mean, inverse))
        ctx.then, ctx.kernels = then, found
        ctx.save_for_backward(x, None if plus is None else z, weight, bias, mean, inverse)
        return z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, z, weight, bias, mean, inverse = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=LAST)
        of_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        of_plus = None if z is None else torch.empty_like(x)
        of_weight, of_bias = torch.empty_like(weight), torch.empty_like(bias)
        given = _places(gradient, x, z, weight, bias, mean, inverse)
        wanted = _places(of_plus, of_x, of_weight, of_bias)
        ctx.kernels.backward(ctx.then, *given, *_rows_and_columns(x), *wanted)
        return of_x, of_plus, of_weight, of_bias, None, None, None


def _places(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _rows_and_columns(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[1], x.shape[1]
