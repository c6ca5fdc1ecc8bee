"""Methods with stateful modules, or modules that a loss does not reach."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import Project, images_of
from torch import Tensor, nn

from fspkd.distill.hint import Hint
from fspkd.engine.lowered import LoweredWeights
from fspkd.engine.step import steps_of
from fspkd.errors import UserError
from fspkd.runs.folder import RunFolder
from fspkd.train.session import Session


class Memory(nn.Module):
    """A queue, how many batches it has seen, and a layer of the method's own."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(3, 2))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("batches", torch.zeros(()))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Linear(2, 2)


@pytest.fixture
def begin(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """Begin a first stage on hints whose method has a memory, and uses it in its loss."""
    modules, loss = Hint.modules, Hint.loss

    def session(memory: Memory, remember: Callable[[Memory], Tensor | None], folder: str = "going") -> Session:
        def counted(self: Hint, taps: dict, own: dict, *rest: object) -> Tensor:
            added = remember(own["memory"])
            value = loss(self, taps, own, *rest)
            return value if added is None else value + added

        monkeypatch.setattr(Hint, "modules", lambda *given: {**modules(*given), "memory": memory})
        monkeypatch.setattr(Hint, "loss", counted)
        run = project.plan().net("fitnet/1").stage1
        return Session(replace(run, folder=RunFolder(project.folder / folder)), images_of(run), None)

    project.set("data.images.validation", 120)
    project.set("training.stop", {"by": "validation", "patience": 20, "every": 2})
    project.set("rows.teacher.stop", {"by": "schedule"})
    project.pack()
    project.train("teacher/1")
    return session


def iterate(going: Session, iterations: int) -> None:
    (step,) = steps_of([going.member])
    for _ in range(iterations):
        step.load()
        step.iterate()
        going.record(step.fetch()[0])
        step.prepare()


def remember(memory: Memory) -> Tensor:
    """As the docs say of a queue: a copy is read before it is written, and what is written has no gradient."""
    features = memory.layer(memory.queue.clone() + 1)
    memory.queue.index_copy_(0, memory.place, features[:1].detach())
    memory.place.add_(1).remainder_(len(memory.queue))
    memory.batches += 1
    return 0.1 * features.square().mean()


def test_images_for_validation_leave_no_trace_in_a_memory(begin: Callable[..., Session]) -> None:
    memory = Memory()
    going = begin(memory, remember)
    iterate(going, 4)
    assert going.member.stopping.iteration > 0  # it was validated
    assert (memory.batches, memory.place) == (4, 1)


def test_a_memory_goes_on_from_its_checkpoint(begin: Callable[..., Session]) -> None:
    begun, resumed, whole = Memory(), Memory(), Memory()
    iterate(going := begin(begun, remember), 5)
    going.save()
    iterate(begin(resumed, remember), 5)
    iterate(begin(whole, remember, "whole"), 10)
    assert resumed.batches == 10
    for (name, found), expected in zip(resumed.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(found, expected), name
    assert whole.queue.unique().numel() == 6


def test_a_memory_that_is_replaced_is_refused(begin: Callable[..., Session]) -> None:
    """On a CPU, where it would work, as on a GPU, where it would not."""

    def rebuild(memory: Memory) -> Tensor:
        memory.queue = torch.cat([memory.queue[1:], torch.ones(1, 2)])
        return remember(memory)

    with pytest.raises(UserError, match=r"Change the buffer in place, such as by buffer.copy_\("):
        iterate(begin(Memory(), rebuild), 1)


def test_parameters_that_a_loss_does_not_reach_are_named_unless_they_are_frozen(begin: Callable[..., Session]) -> None:
    memory = Memory()
    with pytest.raises(
        UserError, match=r"hint: the loss does not depend on memory\.layer\.weight, memory\.layer\.bias\."
    ):
        iterate(begin(memory, lambda _: None), 1)
    before = memory.requires_grad_(False).layer.weight.clone()
    iterate(begin(memory, lambda _: None), 2)
    assert torch.equal(memory.layer.weight, before)


def test_a_weight_has_its_gradients_from_both_precisions() -> None:
    """For a layer that the method applies to the student's taps, in lower precision, and to the teacher's, in its loss."""
    layer = nn.Linear(2, 1, bias=False)
    lowered = LoweredWeights(nn.ModuleList([layer]), torch.bfloat16)
    with lowered.in_use():
        embedded = layer(torch.tensor([[1.0, 2.0]], dtype=torch.bfloat16))
    (embedded.float() + layer(torch.tensor([[16.0, 32.0]]))).backward()
    lowered.hand_over_gradients()
    assert layer.weight.grad.tolist() == [[17.0, 34.0]]
