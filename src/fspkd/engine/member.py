"""One run while it trains: what it has on its device, and what it leaves on disk."""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

from fspkd import weights as checkpoint
from fspkd.config.preset import Optimizer
from fspkd.data.packed import read_sha256
from fspkd.draws import torch_generator
from fspkd.engine.batches import Images
from fspkd.engine.capture import Captured
from fspkd.engine.device import description, usable_precision
from fspkd.engine.evaluate import accuracy_and_loss, predict, save_predictions
from fspkd.engine.lowered import LoweredWeights
from fspkd.engine.objective import Objective
from fspkd.engine.optimizers.sgd import Sgd
from fspkd.engine.schedule import learning_rate, next_milestone
from fspkd.errors import UserError
from fspkd.files import file_sha256, write_atomically
from fspkd.models import ResNet, build
from fspkd.provenance import provenance
from fspkd.runs.journal import JournalWriter
from fspkd.runs.spec import Run
from fspkd.train.metrics import MetricsFile
from fspkd.train.progress import tell


def initial_net(run: Run, images: Images) -> ResNet:
    """A net of the run's kind, initialised from the run's seed, or with the weights that the run starts from.

    Of weights that were trained on other data the linear layer is left out. Raises UserError where they do not fit.
    """
    weights = torch_generator(run.spec.seed, run.spec.stream, "initialisation")
    net = build(run.spec.network, images.channels, images.classes, weights)
    if run.start:
        state = checkpoint.load_weights(run.start.folder, run.start.id)
        if run.is_transfer:
            own = {name: tensor for name, tensor in net.state_dict().items() if name.startswith("linear.")}
            state = {**state, **own}
        try:
            net.load_state_dict(state)
        except RuntimeError as misfit:
            raise UserError(
                f"run {run.id}: the weights of {run.start.id} do not fit images of {images.channels} channels: {misfit}. "
                f"Start from weights that were trained on such images."
            ) from None
    return net


def finished_net(run: Run, images: Images) -> ResNet:
    """The net that a finished run has trained."""
    net = build(run.spec.network, images.channels, images.classes, None)
    net.load_state_dict(checkpoint.load_weights(run.folder, run.id))
    return net


def inputs_sha256(run: Run, data_sha256: str) -> dict[str, str | None]:
    """Checksums of what a run is made from: data, and the weights that it starts and learns from."""
    others = {"start": run.start, "teacher": run.teacher}
    weights = {role: other and checkpoint.load_checksum(other.folder, other.id) for role, other in others.items()}
    return {"data": data_sha256, **weights}


def damaged_outputs(run: Run) -> list[Path]:
    """The outputs of a finished run that are missing or not as its manifest says; the manifest where that is damaged."""
    path = run.folder / "manifest.json"
    try:
        expected = {
            run.folder / name: sha256 for name, sha256 in json.loads(path.read_text())["outputs_sha256"].items()
        }
    except (OSError, ValueError, KeyError):
        return [path]
    return [file for file, sha256 in expected.items() if not file.exists() or file_sha256(file) != sha256]


def is_complete(run: Run) -> bool:
    """Whether the folder holds all outputs of the run, undamaged, made from the inputs that are there now."""
    if damaged_outputs(run):
        return False
    manifest = json.loads((run.folder / "manifest.json").read_text())
    try:
        data = read_sha256(run.data.path)
    except (OSError, ValueError, KeyError, BadZipFile):  # whatever it is, training finds it too, and tells
        return False
    return inputs_sha256(run, data) == manifest["inputs_sha256"]


def decay_groups(net: nn.Module, trained: list[nn.Parameter], settings: Optimizer) -> list[tuple[list, float]]:
    """The trained parameters with their weight decay; without `decay_batchnorm`, batch norm's apart and with none."""
    if settings.decay_batchnorm:
        return [(trained, settings.weight_decay)]
    norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    return [
        ([p for p in trained if id(p) not in norms], settings.weight_decay),
        ([p for p in trained if id(p) in norms], 0.0),
    ]


class Member:
    """A run in training. It starts from the run's checkpoint where there is one of use, and else from its start.

    Raises UserError for inputs that are missing, damaged or another run's.
    """

    def __init__(self, run: Run, images: Images, stream: torch.cuda.Stream | None) -> None:
        self.run, self.spec, self.images, self.stream = run, run.spec, images, stream
        run.check_size(images.size)
        run.folder.mkdir(parents=True, exist_ok=True)
        self.checkpoint_path = run.folder / "checkpoint.pt"
        self.metrics_path = run.folder / "metrics.partial.csv"
        self.precision = usable_precision(self.spec.training.precision, images.device)

        self.inputs_sha256 = inputs_sha256(run, images.sha256)
        net = initial_net(run, images)
        self.net = net.to(images.device, memory_format=torch.channels_last).train()
        self.teacher = None
        if run.teacher:
            teacher = finished_net(run.teacher, images).folded(self.precision)
            self.teacher = teacher.to(images.device, memory_format=torch.channels_last)
        method = self.spec.method
        teacher_network = run.teacher.spec.network if run.teacher else None
        objective = Objective(method, self.spec.seed, self.spec.stream, self.spec.network, teacher_network)
        self.objective = objective.to(images.device)
        self.lowered = None
        if self.precision != torch.float32:
            self.lowered = LoweredWeights(nn.ModuleList([self.net, self.objective]), self.precision)
        trained = [*net.parameters_to(objective.student_taps), *objective.parameters()]
        training = self.spec.training
        self.optimizer = Sgd(
            decay_groups(net, trained, training),
            training.momentum,
            rate=torch.zeros((), device=images.device),
        )
        self.logits = torch.zeros(len(images.test), images.classes, device=images.device)  # of the last test
        self.testing = Captured(self._predict, lambda: [self.logits], stream)
        self.tested_at: int | None = None
        self.done = 0  # iterations
        self.seconds = 0.0  # of training, all attempts together
        attempt = {
            **description(images.device),
            "precision": str(self.precision).split(".")[1],
            **provenance(method.method),
        }
        self.attempts: list[dict] = []  # what has trained this run, and from which iteration on
        self.metrics = MetricsFile(self.metrics_path, self._resume(attempt["code_sha256"]))
        self.attempts.append({"from_iteration": self.done, **attempt})
        self.journal = JournalWriter(run.folder, attempt, self.done)
        self.since = time.monotonic()

    @property
    def complete(self) -> bool:
        return self.done == self.run.iterations

    def autocast(self) -> torch.autocast:
        """The context in which the net computes: bfloat16 where the preset asks for it and the device has it."""
        lower = self.precision != torch.float32
        return torch.autocast(self.images.device.type, self.precision if lower else None, enabled=lower)

    def backward(
        self, images_BCHW: Tensor, labels_B: Tensor, progress: Tensor, targets: Any, await_targets: Callable[[], None]
    ) -> Tensor:
        """The loss of a batch; its gradients are left in the parameters. Targets are awaited when they are needed."""
        self.optimizer.zero_grad()
        with self.autocast(), self.lowered.in_use() if self.lowered else nullcontext():
            taps = self.net.taps(images_BCHW, self.objective.student_taps)
            await_targets()
            loss = self.objective(taps, targets, labels_B, progress)
        loss.backward()
        if self.lowered:
            self.lowered.hand_over_gradients()
        return loss.detach()

    def state(self) -> list[Tensor]:
        """Every tensor that an iteration changes."""
        buffers = [*self.net.buffers(), *self.objective.buffers()]
        return [*self.optimizer.parameters, *self.optimizer.momentum, *buffers]

    def next_stop(self, iteration: int) -> int:
        """The next iteration after which the host has something to do: a new rate, a test, the end."""
        every = self.spec.training.evaluate_every
        test = (iteration // every + 1) * every if self.run.stage == 2 else self.run.iterations
        return min(test, next_milestone(self.spec.schedule, iteration))

    # --- measurements -------------------------------------------------------------------------------------

    def record(self, values: list[tuple[float, float]]) -> tuple[float, float | None]:
        """Take note of iterations that have been run, given as loss and gradient norm, and test the net where it is due.

        Gives the last loss and the test accuracy, if any. Raises UserError for a value that is not finite.
        """
        rows = []
        for iteration, (loss, norm) in enumerate(values, self.done + 1):
            for what, value in (("loss", loss), ("gradient norm", norm)):
                if not math.isfinite(value):
                    self.metrics.append(rows)
                    self._raise_not_finite(what, value, iteration)
            rows.append((iteration, learning_rate(self.spec.schedule, iteration - 1), loss, norm, None, None))
        self.done += len(values)
        accuracy = None
        if self.run.stage == 2 and (self.done % self.spec.training.evaluate_every == 0 or self.complete):
            accuracy, test_loss = self._test()
            rows[-1] = (*rows[-1][:4], test_loss, accuracy)
        self.metrics.append(rows)
        return values[-1][0], accuracy

    def _test(self) -> tuple[float, float]:
        """Accuracy in percent and loss on the test images."""
        self.testing()
        if self.stream:
            self.stream.synchronize()
        self.tested_at = self.done
        return accuracy_and_loss(self.logits, self.images.test_labels)

    def _predict(self) -> None:
        with self.autocast():
            self.logits.copy_(predict(self.net, self.images.test))

    def _raise_not_finite(self, what: str, value: float, iteration: int) -> None:
        method = self.spec.method
        settings = ", ".join(f"{k} = {v!r}" for k, v in method.model_dump(exclude={"schedule", "teacher"}).items())
        self.journal.failed(iteration - 1, f"the {what} is {value} at iteration {iteration}")
        raise UserError(
            f"run {self.run.id}: iteration {iteration}: the {what} is {value}: training has diverged. It ran with {settings} "
            f"at a learning rate of {learning_rate(self.spec.schedule, iteration - 1):g}. Lower the rate (schedule "
            f"{method.schedule!r} of the preset) or the weight of the loss."
        )

    # --- what is on disk ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint."""
        now = time.monotonic()
        self.seconds, self.since = self.seconds + now - self.since, now
        content = {
            "run": self.run.id,
            "inputs_sha256": self.inputs_sha256,
            "iteration": self.done,
            "net": self.net.state_dict(),
            "objective": self.objective.state_dict(),
            "momentum": self.optimizer.momentum,
            "metrics_bytes": self.metrics.sync(),
            "seconds": self.seconds,
            "attempts": self.attempts,
        }
        checkpoint.save(content, self.checkpoint_path)
        self.journal.saved(self.done)

    def _resume(self, code_sha256: dict[str, str]) -> int:
        """Go to the checkpoint, if there is one of use; the size of the metrics file as it was then."""
        if not self.checkpoint_path.exists():
            return 0
        advice = f"Delete the folder {self.run.folder} to train that net from its start."
        saved = checkpoint.load(self.checkpoint_path, self.run.id, advice)
        if saved["inputs_sha256"] != self.inputs_sha256:
            tell(f"{self.run.id}: its checkpoint was made from other images or weights, so it starts anew")
            return 0
        if any(attempt["code_sha256"] != code_sha256 for attempt in saved["attempts"]):
            if saved["iteration"] == self.run.iterations:
                tell(f"{self.run.id}: the code has changed since it was trained, so it starts anew")
                return 0
            tell(f"{self.run.id}: the code has changed since it was begun; the manifest tells")
        self.net.load_state_dict(saved["net"])
        self.objective.load_state_dict(saved["objective"])
        for buffer, value in zip(self.optimizer.momentum, saved["momentum"], strict=True):
            buffer.copy_(value)
        self.done, self.seconds = saved["iteration"], saved["seconds"]
        self.attempts = saved["attempts"]
        tell(f"{self.run.id}: goes on from its checkpoint at iteration {self.done}")
        return saved["metrics_bytes"]

    def finish(self) -> None:
        """Save, and write the outputs of a run at its end: weights, predictions, metrics and, last, the manifest."""
        self.save()
        folder = self.run.folder
        state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        weights = {"run": self.run.id, "sha256": checkpoint.weights_sha256(state), "state": state}
        checkpoint.save(weights, folder / "weights.pt")
        accuracy = None
        if self.run.stage == 2:
            if self.tested_at != self.done:  # a finished run that only writes its outputs again
                self._test()
            accuracy, _ = accuracy_and_loss(self.logits, self.images.test_labels)
            save_predictions(folder / "predictions.npz", self.logits, self.images.test_labels)
        write_atomically(folder / "metrics.csv", self.metrics_path.read_bytes())
        outputs = [f for f in ("metrics.csv", "weights.pt", "predictions.npz") if (folder / f).exists()]
        manifest = {
            "run": self.run.id,
            "iterations": self.done,
            "test_accuracy": accuracy,
            "weights_sha256": weights["sha256"],
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "images": {"shape": [self.images.channels, *self.images.size], "classes": self.images.class_names},
            "inputs_sha256": self.inputs_sha256,
            "outputs_sha256": {name: file_sha256(folder / name) for name in outputs},
            "attempts": self.attempts,
        }
        write_atomically(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
