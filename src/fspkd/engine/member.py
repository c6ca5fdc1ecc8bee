"""One net in training: what it holds and computes on its device. It handles no files."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fspkd.engine import optimizers
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.evaluate import accuracy_and_loss, predict
from fspkd.engine.lowered import LoweredWeights
from fspkd.engine.objective import Objective
from fspkd.engine.schedule import next_milestone, progress
from fspkd.engine.validation import Stopping, ValidationBatches
from fspkd.errors import UserError
from fspkd.models.net import Net
from fspkd.runs.spec import RunSpec

NAMED = 5  # parameters in a message


class Member:
    """A net at iteration `done` of a stage, from the beginning or from a saved state.

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
        self.compiler = net.compiler() if images.device.type == "cpu" else None
        self.teacher = teacher.frozen(precision).to(**on_device) if teacher else None
        objective = Objective(spec.method, spec.draws, net, teacher)
        self.objective = objective.to(images.device)
        self.lowered = None
        if precision != torch.float32:
            self.lowered = LoweredWeights(nn.ModuleList([self.net, self.objective]), precision)
        own = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        trained = [*net.parameters_to(objective.student_taps), *own]
        self.optimizer = optimizers.build(spec.training.optimizer, nn.ModuleList([self.net, self.objective]), trained)
        self.logits = torch.zeros(len(images.test), images.classes, device=images.device)  # of the last test
        self.testing = Captured(self._predict, lambda: [self.logits], stream)
        self.tested_at: int | None = None
        self.stopping: Stopping | None = None
        if spec.training.stop:
            self._prepare_validation(spec.training.stop.patience)

    @property
    def complete(self) -> bool:
        """Whether no iteration is left."""
        return self.done == self.spec.iterations or (self.stopping is not None and self.stopping.ended)

    # --- an iteration -------------------------------------------------------------------------------------

    def autocast(self) -> torch.autocast:
        """The context in which nets are computed in the member's precision."""
        lower = self.precision != torch.float32
        return torch.autocast(self.images.device.type, self.precision if lower else None, enabled=lower)

    def targets(self, images_BCHW: Tensor) -> Any:
        """The method's targets for a batch."""
        return self.objective.targets(self.teacher, images_BCHW, self.autocast())

    def backward(
        self, images_BCHW: Tensor, labels_B: Tensor, progress: Tensor, targets: Any, await_targets: Callable[[], None]
    ) -> Tensor:
        """The loss of a batch; its gradients are left in the parameters. Targets are awaited when they are needed."""
        self.optimizer.zero_grad()
        with self._weights_in_precision():
            embedded = self.objective.embedded(self.net.taps, images_BCHW, self.autocast())
        await_targets()
        loss = self.objective(embedded, targets, labels_B, progress)
        loss.backward()
        if self.lowered:
            self.lowered.hand_over_gradients()
        self._check_gradients()
        return loss.detach()

    def _check_gradients(self) -> None:
        if any(parameter.grad is None for parameter in self.optimizer.parameters):
            named = nn.ModuleDict({"net": self.net, **self.objective.own}).named_parameters()
            trained = {id(parameter) for parameter in self.optimizer.parameters}
            without = [name for name, p in named if id(p) in trained and p.grad is None]
            raise UserError(
                f"{self.spec.method.method}: the loss does not depend on {', '.join(without[:NAMED])}. Make the method "
                f"read the taps that it names and use its modules, or freeze what it does not train: requires_grad_(False)."
            )

    def _weights_in_precision(self) -> AbstractContextManager:
        return self.lowered.in_use() if self.lowered else nullcontext()

    def changed(self) -> list[Tensor]:
        """Every tensor that an iteration changes."""
        buffers = [*self.net.buffers(), *self.objective.buffers()]
        return [*self.optimizer.parameters, *self.optimizer.state(), *buffers]

    # --- between iterations -------------------------------------------------------------------------------

    def next_stop(self, iteration: int) -> int:
        """The next iteration after which the host has something to do: a new rate, a test, a validation, the end."""
        training = self.spec.training
        intervals = [training.evaluate_every, training.stop and training.stop.every]
        due = [(iteration // every + 1) * every for every in intervals if every]
        return min([next_milestone(self.spec.schedule, iteration), *due])

    @property
    def test_is_due(self) -> bool:
        """Whether to test after iteration `done`."""
        return self._is_due(self.spec.training.evaluate_every)

    def _is_due(self, every: int | None) -> bool:
        return every is not None and (self.done == self.spec.iterations or self.done % every == 0)

    def test(self) -> tuple[float, float]:
        """Accuracy in percent and loss on the test images; `logits` (N, K) are those of the last test.

        In float32, whatever the net is trained in: with 8 bits, the two highest logits of an image are often equal.
        """
        if self.tested_at != self.done:
            with self._on_stream():
                self.testing()
            self.tested_at = self.done
        return accuracy_and_loss(self.logits, self.images.test_labels)

    def _predict(self) -> None:
        self.logits.copy_(predict(self.net, self.images, self.images.test))

    @contextmanager
    def _on_stream(self) -> Iterator[None]:
        """A context whose queued work starts after all that was queued before, and is finished when the context ends."""
        if self.stream is None:
            yield
            return
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield
        self.stream.synchronize()

    def state(self) -> dict[str, Any]:
        """All that the next iterations depend on."""
        return {
            "iteration": self.done,
            "net": self.net.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state(),
            **({"stopping": self.stopping.state()} if self.stopping else {}),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.net.load_state_dict(state["net"])
        self.objective.load_state_dict(state["objective"])
        for tensor, value in zip(self.optimizer.state(), state["optimizer"], strict=True):
            tensor.copy_(value)
        if self.stopping:
            self.stopping.set_state(state["stopping"])
        self.done = state["iteration"]

    @staticmethod
    def is_final(state: dict[str, Any], spec: RunSpec) -> bool:
        """Whether a state is that of a finished training."""
        return state["iteration"] == spec.iterations or ("stopping" in state and state["stopping"]["ended"])

    # --- stopping by validation ---------------------------------------------------------------------------

    def _prepare_validation(self, patience: int) -> None:
        images, device = self.images, self.images.device
        self.stopping = Stopping(patience, self.net)
        self.progress = torch.zeros((), device=device)
        if self.spec.stage == 1:
            self.validation = ValidationBatches(images, self.spec.training.batch_size, self.targets)
            self.validated = torch.zeros((), dtype=torch.float64, device=device)
        else:
            self.validated = torch.zeros(len(images.validation), images.classes, device=device)
        self.validating = Captured(self._validate, lambda: [self.validated, *self.objective.buffers()], self.stream)

    @property
    def validation_is_due(self) -> bool:
        """Whether to validate after iteration `done`."""
        return self.stopping is not None and self._is_due(self.spec.training.stop.every)

    def validate(self) -> tuple[float | None, float]:
        """Accuracy in percent (None in a first stage) and loss on the validation images; updates `stopping`.

        A first stage is judged by its loss, its method's, in the precision of training and at the progress of the last
        iteration. A last stage is judged by its error; its loss is the cross-entropy. Both are in float32, as a test is.
        """
        with self._on_stream():
            self.progress.fill_(progress(self.spec.schedule, self.done - 1))
            self.validating()
        if self.spec.stage == 1:
            loss, accuracy = self.validated.item(), None
        else:
            accuracy, loss = accuracy_and_loss(self.validated, self.images.validation_labels)
        with self._on_stream():
            self.stopping.judge(self.done, loss if accuracy is None else 100 - accuracy)
        return accuracy, loss

    @torch.no_grad()
    def _validate(self) -> None:
        """Set `validated` to the method's loss on the validation images or, in a last stage, their logits (N, K).

        What a method remembers between batches stays unchanged.
        """
        if self.spec.stage == 2:
            self.validated.copy_(predict(self.net, self.images, self.images.validation))
            return
        modules = nn.ModuleList([self.net, self.objective]).eval()
        held = [buffer.clone() for buffer in self.objective.buffers()]
        total = torch.zeros_like(self.validated)
        with self._weights_in_precision():
            for x, labels, targets in self.validation:
                embedded = self.objective.embedded(self.net.taps, x, self.autocast())
                total += len(labels) * self.objective(embedded, targets, labels, self.progress)
        self.validated.copy_(total / len(self.images.validation))
        for buffer, value in zip(self.objective.buffers(), held, strict=True):
            buffer.copy_(value)
        modules.train()

    def take_best(self) -> None:
        """At the end, restore the parameters that were best on the validation images, if those stop the training."""
        if self.stopping:
            with self._on_stream():
                self.net.load_state_dict(self.stopping.best)
            self.tested_at = None
