"""Optimizers and schedules against a few plain lines each."""

import math

import pytest
import torch
from conftest import Project, die_at
from torch import nn

from fspkd.config.training import HeavyBall, OptimizerSettings, RateUntil, Rmsprop, Sgd
from fspkd.engine import optimizers, step
from fspkd.engine.schedule import is_constant, learning_rate, momentum
from fspkd.networks.network import UpdateRule

SGD = {"algorithm": "sgd", "momentum": 0.9, "weight_decay": 0.01, "decay_batchnorm": True}
SETTINGS = {
    "sgd": Sgd(**SGD),
    "nesterov": Sgd(**SGD, nesterov=True),
    "heavy_ball": HeavyBall(algorithm="heavy_ball", momentum=0.5),
    "rmsprop": Rmsprop(algorithm="rmsprop"),
}
RATES = [0.1, 0.05, 0.2, 0.2, 0.01, 0.3]
MOMENTA = [0.5, 0.6, 0.7, 0.7, 0.9, 0.0]


def modules() -> nn.ModuleList:
    """A convolution with an update rule, and a linear layer without."""
    torch.manual_seed(3)
    conv, linear = nn.Conv2d(2, 3, 3), nn.Linear(4, 5)
    conv.update_rule = UpdateRule(rate=0.05, limit=0.6)
    return nn.ModuleList([conv, linear])


def gradients(parameters: list[nn.Parameter]) -> list[list[torch.Tensor]]:
    """The gradients of each step; some are below RMSProp's floor."""
    random = torch.Generator().manual_seed(5)
    return [
        [10.0 ** -(step % 4 * 2) * torch.randn(p.shape, generator=random) for p in parameters]
        for step in range(len(RATES))
    ]


def plainly(settings: OptimizerSettings, parameters: list[nn.Parameter], scales: list[float]) -> list[torch.Tensor]:
    """The parameters after all steps, one number at a time, in double precision, with no limits."""
    ends = []
    for parameter, scale, *grads in zip(parameters, scales, *gradients(parameters), strict=True):
        numbers = parameter.detach().double().flatten().tolist()
        memory = [0.0] * len(numbers)
        for rate, beta, grad in zip(RATES, MOMENTA, grads, strict=True):
            for i, g in enumerate(grad.double().flatten().tolist()):
                match settings.algorithm:
                    case "sgd":
                        memory[i] = settings.momentum * memory[i] + g + settings.weight_decay * numbers[i]
                        ahead = g + settings.weight_decay * numbers[i] + settings.momentum * memory[i]
                        numbers[i] -= scale * rate * (ahead if settings.nesterov else memory[i])
                    case "heavy_ball":
                        memory[i] = beta * memory[i] - scale * rate * g
                        numbers[i] += memory[i]
                    case "rmsprop":
                        memory[i] = 0.9 * memory[i] + 0.1 * g * g
                        numbers[i] -= scale * rate * g / max(math.sqrt(memory[i]), 1e-5)
        ends.append(torch.tensor(numbers).reshape(parameter.shape))
    return ends


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_optimizer_does_what_a_few_plain_lines_do(algorithm: str) -> None:
    root = modules()
    root[0].update_rule = UpdateRule(rate=0.05)  # limits have a test of their own
    parameters = list(root.parameters())
    expected = plainly(SETTINGS[algorithm], parameters, [0.05, 0.05, 1, 1])
    optimizer = optimizers.build(SETTINGS[algorithm], root, parameters)
    for rate, beta, grads in zip(RATES, MOMENTA, gradients(parameters), strict=True):
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.rate.fill_(rate)
        if optimizer.factor is not None:
            optimizer.factor.fill_(beta)
        optimizer.step()
    for parameter, end in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), end, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_filters_are_scaled_down_to_their_limit_after_each_step(algorithm: str) -> None:
    limited, free = modules(), modules()
    free[0].update_rule = UpdateRule(rate=0.05)
    weights = []
    for root in (limited, free):
        optimizer = optimizers.build(SETTINGS[algorithm], root, list(root.parameters()))
        optimizer.rate.fill_(0.1)
        for parameter, grad in zip(root.parameters(), gradients(list(root.parameters()))[0], strict=True):
            parameter.grad = grad
        optimizer.step()
        weights.append(root[0].weight.detach())
    lengths = weights[1].flatten(1).norm(dim=1)
    assert (lengths > 0.6).any()
    scale = torch.clamp(0.6 / lengths, max=1).view(-1, 1, 1, 1)
    torch.testing.assert_close(weights[0], weights[1] * scale, rtol=1e-5, atol=1e-7)
    assert torch.equal(limited[1].weight, free[1].weight)


def test_rates_and_momenta_go_where_a_schedule_says() -> None:
    schedule = (
        RateUntil(until=10, rate=1.0, to=0.5, momentum=0.5, momentum_to=0.9),
        RateUntil(until=20, rate=0.5, to=0.05, along="exponential", momentum=0.9),
        RateUntil(until=30, rate=0.01),
        RateUntil(until=42, rate=0.2, to=0, along="cosine"),
    )
    assert [learning_rate(schedule, i) for i in (0, 5, 9)] == pytest.approx([1.0, 0.75, 0.55])
    assert [learning_rate(schedule, i) for i in (10, 15, 20, 29)] == pytest.approx([0.5, 0.5 / 10**0.5, 0.01, 0.01])
    assert [learning_rate(schedule, i) for i in (30, 34, 36, 38)] == pytest.approx([0.2, 0.15, 0.1, 0.05])
    assert [momentum(schedule, i, 0.7) for i in (0, 5, 10, 19, 20)] == pytest.approx([0.5, 0.7, 0.9, 0.9, 0.7])
    assert not is_constant(schedule)
    assert is_constant(schedule[2:3])


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_resumed_and_in_blocks_the_bits_are_the_same(
    project: Project, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """With rates that change at every iteration, in a resumed run and in one that gets several at once."""
    phase = {"until": 20, "rate": 0.01, "to": 0.001}
    if algorithm == "heavy_ball":
        phase |= {"momentum": 0.5, "momentum_to": 0.9}
    project.set("schedules.long", [phase])
    project.set("rows.teacher.optimizer", SETTINGS[algorithm].model_dump())
    run = project.plan().net("teacher/1")
    project.train("teacher/1")
    first = run.folder.read_manifest().weights_sha256

    def again() -> str:
        for file in (run.folder.manifest, run.folder.checkpoint):
            file.unlink(missing_ok=True)
        project.train("teacher/1")
        return run.folder.read_manifest().weights_sha256

    with monkeypatch.context() as patch:
        patch.setitem(step.BLOCK, "cpu", 3)
        assert again() == first

    with monkeypatch.context() as patch:
        die_at(8, patch)
        with pytest.raises(KeyboardInterrupt):
            again()
    project.train("teacher/1")
    assert [attempt.from_iteration for attempt in run.folder.read_manifest().attempts] == [0, 8]
    assert run.folder.read_manifest().weights_sha256 == first


def test_heavy_ball_is_sgd_where_nothing_changes(project: Project) -> None:
    """Without weight decay, up to rounding."""
    project.set("schedules.long", [{"until": 20, "rate": 0.02}])
    metrics = []
    for optimizer in ({**SGD, "weight_decay": 0.0}, {"algorithm": "heavy_ball", "momentum": 0.9}):
        project.set("rows.teacher.optimizer", optimizer)
        project.train("teacher/1")
        metrics.append(project.plan().net("teacher/1").folder.metrics.read_text())
    losses = [[float(line.split(",")[2]) for line in text.splitlines()[1:]] for text in metrics]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
