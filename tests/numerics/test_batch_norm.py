"""Batch norm and what follows it, as a CPU computes them, against PyTorch in float64."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project
from torch import Tensor
from torch.nn import functional as F

from fspkd.models import batch_norm, kernels
from fspkd.models.batch_norm import AddReLU, BatchNorm, BatchNormReLU

LAST = torch.channels_last
TOLERANCE = {torch.float32: 20 * 2**-24, torch.bfloat16: 2**-9}  # one rounding is 2^-24 or 2^-9

compiled = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")


def filled(norm: BatchNorm) -> BatchNorm:
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        torch.nn.init.uniform_(tensor.data, 0.5, 1.5)
    torch.nn.init.uniform_(norm.bias.data, -1, 1)
    return norm


def by_definition(norm: BatchNorm, x: Tensor, plus: Tensor | None, gradient: Tensor) -> dict[str, Tensor]:
    """All results of a forward and a backward pass, in float64."""
    x, gradient = x.detach().double().requires_grad_(), gradient.double()
    plus = None if plus is None else plus.detach().double().requires_grad_()
    weight, bias = (parameter.detach().double().requires_grad_() for parameter in (norm.weight, norm.bias))
    running = [buffer.double() for buffer in (norm.running_mean, norm.running_var)]
    y = F.batch_norm(x, *running, weight, bias, True, norm.momentum, norm.eps)
    if isinstance(norm, BatchNormReLU):
        y = F.relu(y if plus is None else y + plus)
    y.backward(gradient)
    found = {"output": y, "x": x.grad, "weight": weight.grad, "bias": bias.grad}
    return found | dict(zip(("mean", "var"), running, strict=True)) | ({"plus": plus.grad} if plus is not None else {})


def computed(norm: BatchNorm, x: Tensor, plus: Tensor | None, gradient: Tensor) -> dict[str, Tensor]:
    """The same from the module."""
    x = x.detach().clone().requires_grad_()
    inputs = [x] if plus is None else [x, plus := plus.detach().clone().requires_grad_()]
    y = norm(*inputs)
    assert "_Fused" in type(y.grad_fn).__name__
    y.backward(gradient)
    found = {"output": y, "x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    found |= {"mean": norm.running_mean, "var": norm.running_var}
    return found | ({"plus": plus.grad} if plus is not None else {})


@compiled
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shape",  # including rows that fill no block, one column, more columns than are summed side by side
    [(4, 16, 8, 8), (3, 3, 7, 5), (8, 200, 1, 1), (33, 5, 9, 9), (6, 1, 28, 28), (20, 300, 5, 5), (128, 16, 32, 32)],
)
@pytest.mark.parametrize("kind", ["alone", "relu", "add and relu"])
def test_it_gives_what_the_definition_does(precision: torch.dtype, shape: tuple[int, ...], kind: str) -> None:
    torch.manual_seed(0)
    norm = filled(BatchNorm(shape[1]) if kind == "alone" else BatchNormReLU(shape[1]))
    x, plus, gradient = (torch.randn(shape).to(precision).contiguous(memory_format=LAST) for _ in range(3))
    x = x + 2 * torch.randn(shape[1]).to(precision)[:, None, None]
    inputs = x, plus if kind == "add and relu" else None, gradient
    wanted = by_definition(norm, *inputs)
    for what, value in computed(norm, *inputs).items():
        tolerance = TOLERANCE[precision if what in ("output", "x", "plus") else torch.float32]
        assert value.shape == wanted[what].shape
        # rounding may open or close a ReLU, and with it a gradient, so norms are compared
        assert (value.double() - wanted[what]).norm() < tolerance * wanted[what].norm(), what


@compiled
def test_a_mean_that_hides_the_deviation_does_not_hide_it_here() -> None:
    torch.manual_seed(0)
    norm, x = BatchNorm(16), (10_000 + torch.randn(64, 16, 8, 8)).contiguous(memory_format=LAST)
    torch.testing.assert_close(norm(x).double(), F.batch_norm(x.double(), None, None, training=True), atol=1e-3, rtol=0)


@compiled
def test_how_maps_lie_in_memory_changes_no_bit() -> None:
    torch.manual_seed(0)
    x, plus = torch.randn(2, 8, 16, 6, 6).unbind()
    found = []
    for layout in (torch.channels_last, torch.contiguous_format):
        inputs = [tensor.detach().clone(memory_format=layout).requires_grad_() for tensor in (x, plus)]
        norm = BatchNormReLU(16)
        norm(*inputs).mean((2, 3)).square().sum().backward()  # its gradient is the same for all pixels
        found.append([norm.weight.grad, norm.running_var, *(tensor.grad for tensor in inputs)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@compiled
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_so_that_divergence_is_seen(precision: torch.dtype) -> None:
    x = torch.randn(4, 8, 3, 3).to(precision)
    x[0, 2, 0, 0] = torch.nan
    y = BatchNormReLU(8)(x, torch.zeros_like(x))
    assert y[:, 2].isnan().all()
    assert not y[:, :2].isnan().any()


@compiled
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@torch.no_grad()
def test_addition_and_relu_have_the_bits_of_pytorch(precision: torch.dtype, layout: torch.memory_format) -> None:
    x, plus = (torch.randn(2, 5, 7, 7).to(precision).contiguous(memory_format=layout) for _ in range(2))
    assert torch.equal(AddReLU()(x.clone()), F.relu(x))
    assert torch.equal(AddReLU()(x.clone(), plus), F.relu(x + plus))
    assert torch.equal(AddReLU()(x.clone(), plus[:, :, :1, :1]), F.relu(x + plus[:, :, :1, :1]))


@compiled
def test_what_needs_no_gradient_gets_none() -> None:
    norm, x, plus = BatchNormReLU(4), torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5, requires_grad=True)
    norm.requires_grad_(False)
    norm(x, plus).sum().backward()
    assert x.grad is norm.weight.grad is None
    assert torch.equal(plus.grad, (norm(x, plus) > 0).float())


def test_what_does_not_fit_is_told_as_by_pytorch() -> None:
    x = torch.randn(2, 4, 5, 5)
    with pytest.raises(RuntimeError, match="running_mean should contain 4 elements"):
        BatchNorm(2)(x)
    with pytest.raises(RuntimeError, match="must match the size"):
        BatchNormReLU(4)(x, torch.randn(2, 4, 3, 3))


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_options_of_pytorch_s_batch_norm_stay(options: dict[str, bool]) -> None:
    x = torch.randn(8, 4, 5, 5)
    torch.testing.assert_close(BatchNorm(4, **options)(x), torch.nn.BatchNorm2d(4, **options)(x))


def test_one_number_a_channel_is_refused_as_by_pytorch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNormReLU(8)(torch.randn(1, 8, 1, 1))


@compiled
def test_a_net_is_trained_as_it_is_without_a_compiler(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.train("teacher/1")
    fused = project.plan().net("teacher/1").folder
    losses, attempts = pd.read_csv(fused.metrics)["loss"], fused.read_manifest().attempts
    assert [attempt.compiler for attempt in attempts] == [kernels.compiler()]
    shutil.rmtree(fused.path)
    monkeypatch.setattr(batch_norm, "kernels", lambda _: None)
    project.train("teacher/1")
    np.testing.assert_allclose(losses, pd.read_csv(fused.metrics)["loss"], rtol=1e-4)


def told(**environment: object) -> tuple[str, str]:
    """The compiler that another process finds, and its error output."""
    command = [sys.executable, "-c", "from fspkd.models import kernels; print(kernels.compiler())"]
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    process = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return process.stdout.strip(), process.stderr.strip()


@compiled
@pytest.mark.parametrize("length", [100, 0.5, 0.95])
def test_it_is_compiled_once_and_again_where_the_file_is_damaged(tmp_path: Path, length: float) -> None:
    as_here = kernels.compiler(), ""
    assert told(XDG_CACHE_HOME=tmp_path) == as_here
    (library,) = (tmp_path / "fspkd").iterdir()
    whole, first = library.read_bytes(), library.stat()
    assert told(XDG_CACHE_HOME=tmp_path) == as_here
    assert library.stat().st_ino == first.st_ino
    library.write_bytes(whole[: length if length > 1 else int(length * len(whole))])
    assert told(XDG_CACHE_HOME=tmp_path) == as_here
    assert len(library.read_bytes()) == len(whole)


@compiled
def test_it_is_compiled_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert told(XDG_CACHE_HOME=tmp_path / "file") == (kernels.compiler(), "")
    assert told(XDG_CACHE_HOME="/proc/nowhere") == (kernels.compiler(), "")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-compiler", "No such file or directory: 'no-such-compiler'"),
        ("false", "returned non-zero exit status 1"),
        ("echo", "No such file or directory"),
        ("g++'", "No closing quotation"),
    ],
)
def test_without_a_compiler_that_works_there_is_none(tmp_path: Path, command: str, reason: str) -> None:
    found, said = told(CXX=command, XDG_CACHE_HOME=tmp_path)
    assert found == "None"
    assert said.startswith("kernels.cpp cannot be compiled, so that training is slower: ")
    assert reason in said
