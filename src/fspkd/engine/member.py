"""One net in training: what it has on its device and computes there. It knows no file."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fspkd.engine import optimizers
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.evaluate import accuracy_and_loss, predict
from fspkd.engine.lowered import LoweredWeights
from fspkd.engine.objective import Objective
from fspkd.engine.schedule import next_milestone
from fspkd.models.net import Net
from fspkd.runs.spec import RunSpec


class Member:
    """A net at iteration `done` of a stage, from its start or from a state that was taken later.

    `precision`: of nets and of the methods' own modules; weights, losses, updates and tests are always float32.
    """

    def __init__(
        self,
        spec: RunSpec,
        images: Images,
        net: Net,
        teacher: Net | None,
        precision: torch.dtype,
        stream: torch.cuda.Stream | None,
    ) -> None:
        self.spec, self.images, self.precision, self.stream = spec, images, precision, stream
        self.done = 0  # iterations
        on_device = {"device": images.device, "memory_format": torch.channels_last}
        self.net = net.to(**on_device).train()
        self.teacher = teacher.frozen(precision).to(**on_device) if teacher else None
        objective = Objective(spec.method, spec.draws, net, teacher)
        self.objective = objective.to(images.device)
        self.lowered = None
        if precision != torch.float32:
            self.lowered = LoweredWeights(nn.ModuleList([self.net, self.objective]), precision)
        trained = [*net.parameters_to(objective.student_taps), *objective.parameters()]
        self.optimizer = optimizers.build(spec.training.optimizer, nn.ModuleList([self.net, self.objective]), trained)
        self.logits = torch.zeros(len(images.test), images.classes, device=images.device)  # of the last test
        self.testing = Captured(self._predict, lambda: [self.logits], stream)
        self.tested_at: int | None = None

    @property
    def complete(self) -> bool:
        return self.done == self.spec.iterations

    # --- an iteration -------------------------------------------------------------------------------------

    def autocast(self) -> torch.autocast:
        """The context in which nets are computed in the member's precision."""
        lower = self.precision != torch.float32
        return torch.autocast(self.images.device.type, self.precision if lower else None, enabled=lower)

    def backward(
        self, images_BCHW: Tensor, labels_B: Tensor, progress: Tensor, targets: Any, await_targets: Callable[[], None]
    ) -> Tensor:
        """The loss of a batch; its gradients are left in the parameters. Targets are awaited when they are needed."""
        self.optimizer.zero_grad()
        with ExitStack() as lowered:
            if self.lowered:
                lowered.enter_context(self.lowered.in_use())
            embedded = self.objective.embedded(self.net, images_BCHW, self.autocast())
        await_targets()
        loss = self.objective(embedded, targets, labels_B, progress)
        loss.backward()
        if self.lowered:
            self.lowered.hand_over_gradients()
        return loss.detach()

    def changed(self) -> list[Tensor]:
        """Every tensor that an iteration changes."""
        buffers = [*self.net.buffers(), *self.objective.buffers()]
        return [*self.optimizer.parameters, *self.optimizer.state(), *buffers]

    # --- between iterations -------------------------------------------------------------------------------

    def next_stop(self, iteration: int) -> int:
        """The next iteration after which the host has something to do: a new rate, a test, the end."""
        every = self.spec.training.evaluate_every or self.spec.iterations
        return min((iteration // every + 1) * every, next_milestone(self.spec.schedule, iteration))

    @property
    def test_is_due(self) -> bool:
        every = self.spec.training.evaluate_every
        return every is not None and (self.complete or self.done % every == 0)

    def test(self) -> tuple[float, float]:
        """Accuracy in percent and loss on the test images; `logits` (N, K) are those of the last test.

        In float32, whatever the net is trained in: of 8 bits, the two highest logits of an image are often equal.
        """
        if self.tested_at != self.done:
            self.testing()
            if self.stream:
                self.stream.synchronize()
            self.tested_at = self.done
        return accuracy_and_loss(self.logits, self.images.test_labels)

    def _predict(self) -> None:
        self.logits.copy_(predict(self.net, self.images))

    def state(self) -> dict[str, Any]:
        """All that the next iterations depend on."""
        return {
            "iteration": self.done,
            "net": self.net.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.net.load_state_dict(state["net"])
        self.objective.load_state_dict(state["objective"])
        for tensor, value in zip(self.optimizer.state(), state["optimizer"], strict=True):
            tensor.copy_(value)
        self.done = state["iteration"]
