"""One run in training: its net, and what it writes to its folder."""

import math
import time
from contextlib import suppress
from datetime import UTC, datetime

import torch

from fspkd.data.packed import read_sha256
from fspkd.data.sets import PretrainedWeights
from fspkd.engine.batches import Images
from fspkd.engine.device import usable_precision
from fspkd.engine.member import Member
from fspkd.engine.schedule import learning_rate
from fspkd.errors import DamagedError, UserError
from fspkd.files import Prefix, write_atomically
from fspkd.provenance import provenance
from fspkd.runs.folder import Attempt, ImageFacts, Manifest
from fspkd.runs.journal import JournalWriter
from fspkd.runs.predictions import save_predictions
from fspkd.runs.spec import Run
from fspkd.train.machine import description
from fspkd.train.metrics import MetricsFile
from fspkd.train.nets import check_method, checksum, finished_net, initial_net, teacher_accuracy
from fspkd.train.progress import tell
from fspkd.weights import load, save, save_weights


def inputs_sha256(run: Run, data_sha256: str) -> dict[str, str | None]:
    """Checksums of what a run is made from: data, and the weights that it starts and learns from."""
    others = {"start": run.start, "teacher": run.teacher}
    weights = {role: checksum(other) if other else None for role, other in others.items()}
    return {"data": data_sha256, **weights}


def is_complete(run: Run) -> bool:
    """Whether the folder holds all outputs of the run, undamaged, made from the inputs that are there now."""
    if run.folder.damaged_outputs():
        return False
    try:
        data = read_sha256(run.data.path)
    except (OSError, UserError):  # training meets the same problem and reports it
        return False
    return inputs_sha256(run, data) == run.folder.read_manifest().inputs_sha256


def new_member(run: Run, images: Images, stream: torch.cuda.Stream | None) -> Member:
    """The engine's part of a run, at its start. Raises UserError for weights that are missing or damaged."""
    precision = usable_precision(run.spec.training.precision, images.device)
    teacher = finished_net(run.teacher, images.shape, images.classes) if run.teacher else None
    student = initial_net(run, images)
    check_method(run, student, teacher)
    return Member(run.spec, images, student, teacher, precision, stream)


class Session:
    """A run in training. It resumes from the run's checkpoint if that is usable, and otherwise begins at its start.

    Raises UserError for inputs that are missing, damaged or another run's.
    """

    def __init__(self, run: Run, images: Images, stream: torch.cuda.Stream | None, preset: str | None = None) -> None:
        self.run, self.folder, self.images = run, run.folder, images
        run.check_size(images.size)
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.inputs_sha256 = inputs_sha256(run, images.sha256)
        self.member = new_member(run, images, stream)
        asked, precision = run.spec.training.precision, str(self.member.precision).removeprefix("torch.")
        if precision != asked:
            tell(f"the preset asks for {asked}, which this device lacks: it computes in {precision} instead")
        self.seconds = 0.0  # of training, all attempts together
        self.attempts: list[Attempt] = []  # what has trained this run
        computed = {"precision": precision, "compiler": self.member.compiler}
        machine = {"preset": preset, **description(images.device), **computed, **provenance()}
        keep = self._resume()
        if isinstance(run.teacher, PretrainedWeights):
            accuracy = teacher_accuracy(run.teacher, images)
            tell(f"{run.id}: its teacher, {run.teacher.name}, has {accuracy:.2f} % of the test images right")
        attempt = Attempt(from_iteration=self.member.done, code_sha256=run.code_sha256, **machine)
        if self.attempts and (changed := _changes(self.attempts[-1].kind, attempt.kind)):
            tell(f"{run.id}: resumes in another environment ({changed}): its bits will match those of neither")
        self.attempts.append(attempt)
        self.folder.manifest.unlink(missing_ok=True)  # for other inputs, or for outputs that are gone
        self.metrics = MetricsFile(self.folder.growing_metrics, keep, bool(run.spec.training.stop))
        self.journal = JournalWriter(self.folder, self.attempts[-1])
        if self.journal.was_damaged:
            tell(f"{self.folder.journal}: is damaged: the times at which this run was trained so far are lost")
        self.since = time.monotonic()

    # --- measurements -------------------------------------------------------------------------------------

    def record(self, values: list[tuple[float, float]]) -> str:
        """Record finished iterations, given as loss and gradient norm, and test and validate the net if that is due.

        Returns a text about the last one. Raises UserError for a value that is not finite.
        """
        member, rows = self.member, []
        for iteration, (loss, norm) in enumerate(values, member.done + 1):
            for what, value in (("loss", loss), ("gradient norm", norm)):
                if not math.isfinite(value):
                    self.metrics.append(rows)
                    self._raise_not_finite(what, value, iteration)
            rows.append((iteration, learning_rate(self.run.spec.schedule, iteration - 1), loss, norm))
        member.done += len(values)
        tested = member.test() if member.test_is_due else None
        validated = member.validate() if member.validation_is_due else None
        accuracy, test_loss = tested or (None, None)
        rows[-1] = (*rows[-1], test_loss, accuracy, *(validated or ())[::-1])
        self.metrics.append(rows)
        if validated and not math.isfinite(validated[1]):
            self._raise_not_finite("loss on validation images", validated[1], member.done)
        said = f"loss {values[-1][0]:.4g}" + (f", test {accuracy:.2f} %" if tested else "")
        return said + (f", validation {self._seen(*validated)}" if validated else "")

    def _seen(self, accuracy: float | None, loss: float) -> str:
        value = f"loss {loss:.4g}" if accuracy is None else f"{accuracy:.2f} %"
        stopping = self.member.stopping
        return f"{value}, best at {stopping.iteration}" if stopping else value

    def _raise_not_finite(self, what: str, value: float, iteration: int) -> None:
        method, schedule = self.run.spec.method, self.run.spec.schedule
        settings = ", ".join(f"{k} = {v!r}" for k, v in method.model_dump(exclude={"schedule", "teacher"}).items())
        self.journal.failed(iteration - 1, f"the {what} is {value} at iteration {iteration}")
        raise UserError(
            f"run {self.run.id}: iteration {iteration}: the {what} is {value}: training has diverged. It ran with {settings} "
            f"at a learning rate of {learning_rate(schedule, iteration - 1):g}. Lower the rate (schedule "
            f"{method.schedule!r} of the preset) or the weight of the loss."
        )

    # --- what is on disk ----------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint, and keep the one before."""
        now = time.monotonic()
        self.seconds, self.since = self.seconds + now - self.since, now
        metrics = self.metrics.sync()
        content = {
            "run": self.run.id,
            "inputs_sha256": self.inputs_sha256,
            "member": self.member.state(),
            "metrics_bytes": metrics.bytes,
            "metrics_sha256": metrics.sha256,
            "seconds": self.seconds,
            "attempts": [attempt.model_dump(mode="json") for attempt in self.attempts],
        }
        with suppress(OSError):  # there is none yet, or the folder cannot be written to, which `save` reports
            self.folder.checkpoint.replace(self.folder.previous_checkpoint)
        save(content, self.folder.checkpoint)
        self.journal.saved(self.member.done, metrics)

    def _whole_checkpoint(self) -> dict | None:
        """The last checkpoint that is whole, as are the measurements up to it; damaged ones are deleted."""
        advice = f"Delete the folder {self.folder} to train that net from its start."
        for file in (self.folder.checkpoint, self.folder.previous_checkpoint):
            try:
                saved = load(file, self.run.id, advice) if file.exists() else None
            except DamagedError:
                tell(f"{file}: is damaged: {self.run.id} resumes from an earlier checkpoint, or from its start")
                file.unlink()
                continue
            if saved and not _measured(saved).is_in(self.folder.growing_metrics):
                tell(f"{self.folder.growing_metrics}: does not match {file.name}, which cannot be used without it")
                file.unlink()
            elif saved:
                return saved
        return None

    def _resume(self) -> Prefix:
        """Resume from a checkpoint, if one is usable; return what the metrics file held then."""
        name, saved = self.run.id, self._whole_checkpoint()
        if saved is None:
            return Prefix()
        if saved["inputs_sha256"] != self.inputs_sha256:
            tell(f"{name}: its checkpoint was made from other images or weights, so it starts over")
            return Prefix()
        attempts = [Attempt.model_validate(attempt) for attempt in saved["attempts"]]
        has_changed = any(attempt.code_sha256 != self.run.code_sha256 for attempt in attempts)
        if has_changed and Member.is_final(saved["member"], self.run.spec):
            tell(f"{name}: the code has changed since it was trained, so it starts over")
            return Prefix()
        try:
            self.member.set_state(saved["member"])
        except (RuntimeError, ValueError, KeyError) as error:  # other tensors, or other shapes
            if not has_changed or isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
                raise
            tell(
                f"{name}: the code has changed since it was begun and cannot resume from its checkpoint, so it starts over"
            )
            self.member = new_member(self.run, self.images, self.member.stream)
            return Prefix()
        if has_changed:
            tell(f"{name}: the code has changed since it was begun; the manifest records both versions")
        self.seconds, self.attempts = saved["seconds"], attempts
        tell(f"{name}: resumes from its checkpoint at iteration {self.member.done}")
        return _measured(saved)

    def finish(self) -> None:
        """Save, and write the outputs of a run at its end: weights, predictions, metrics and, last, the manifest."""
        self.save()
        run, member, images = self.run, self.member, self.images
        preprocess = run.data.settings.preprocess
        if stopping := member.stopping:
            length = f"{member.done} of {run.spec.iterations} iterations"
            tell(f"{run.id}: ends after {length} and keeps iteration {stopping.iteration}, best on validation images")
        member.take_best()
        state = {name: tensor.cpu() for name, tensor in member.net.state_dict().items()}
        sha256 = save_weights(state, self.folder.weights, run.id)
        accuracy = None
        if run.spec.stage == 2:
            accuracy, _ = member.test()
            save_predictions(self.folder.predictions, member.logits.cpu().numpy(), images.test_labels.cpu().numpy())
        write_atomically(self.folder.metrics, self.folder.growing_metrics.read_bytes())
        self.folder.previous_checkpoint.unlink(missing_ok=True)
        self.folder.write_manifest(
            Manifest(
                run=run.id,
                iterations=member.done,
                best_iteration=stopping.iteration if stopping else None,
                best_validation=stopping.value if stopping else None,
                test_accuracy=accuracy,
                weights_sha256=sha256,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(self.seconds, 3),
                images=ImageFacts(
                    shape=images.shape,
                    classes=tuple(images.class_names),
                    preprocess=preprocess.method if preprocess else None,
                ),
                inputs_sha256=self.inputs_sha256,
                outputs_sha256=self.folder.outputs_sha256(run.spec.stage),
                attempts=tuple(self.attempts),
            )
        )


def _changes(before: dict[str, str], after: dict[str, str]) -> str:
    """What differs between two kinds of machines."""
    keys = dict.fromkeys([*before, *after])
    return "; ".join(
        f"{key}: {before.get(key)}, now {after.get(key)}" for key in keys if before.get(key) != after.get(key)
    )


def _measured(saved: dict) -> Prefix:
    """What the metrics file held when a checkpoint was saved."""
    return Prefix(saved["metrics_bytes"], saved.get("metrics_sha256"))
