"""The engine: trains one run, from its start or its checkpoint, to its weights, metrics and predictions."""

import json
import math
import signal
import time
from datetime import UTC, datetime

import torch
import yaml
from filelock import FileLock, Timeout
from torch import Tensor, nn

from fspkd.data import PackedData, load_packed
from fspkd.distill import OBJECTIVES
from fspkd.errors import UserError
from fspkd.evaluate import accuracy_and_loss, predict, save_predictions
from fspkd.files import file_sha256, write_atomically
from fspkd.models import CifarResNet
from fspkd.plan import Run
from fspkd.provenance import provenance
from fspkd.streams import torch_generator
from fspkd.train import checkpoint
from fspkd.train.batches import Batches
from fspkd.train.metrics import MetricsFile
from fspkd.train.progress import Progress
from fspkd.train.schedule import learning_rate, progress

SECONDS_BETWEEN_FETCHES = 1.0  # of the measurements, which stay on the device until then


def train(run: Run, device: torch.device, checkpoint_seconds: float) -> None:
    """Train a run to its end, from its checkpoint where there is one, and write its folder.

    That holds run.yaml, metrics.csv, weights.pt, predictions.npz for a last stage and, written at the very end,
    manifest.json: a folder with a manifest is complete. The checkpoint stays, so that a job that dies on its last
    yards, or whose outputs Snakemake removes, has only to write them again. On SIGTERM and SIGINT it saves a
    checkpoint and exits with 128 plus the signal's number.

    Raises UserError for inputs that are missing, damaged or another run's, and for a loss or a gradient that is not
    finite.
    """
    specification = yaml.safe_dump(run.spec.model_dump(mode="json"), sort_keys=False)
    write_atomically(run.folder / "run.yaml", specification.encode())
    try:
        lock = FileLock(run.folder / "lock").acquire(blocking=False)
    except Timeout:
        raise UserError(f"{run.folder}: another process is training this run. Wait for it, or end it first.") from None
    with lock:
        if (run.folder / "manifest.json").exists():
            print(f"{run.folder}: complete, nothing to do")
            return
        for left_over in run.folder.glob(".*.tmp"):  # by a process that was killed while it wrote
            left_over.unlink()
        _Training(run, device, checkpoint_seconds).to_the_end()


def initial_net(run: Run, data: PackedData) -> CifarResNet:
    """A net of the run's kind, initialised from the run's seed."""
    weights = torch_generator(run.spec.seed, run.spec.stream, "initialisation")
    return CifarResNet(run.spec.network, data.images["train"].shape[3], len(data.classes), weights)


def finished_net(run: Run, data: PackedData) -> CifarResNet:
    """The net that a finished run has trained."""
    net = initial_net(run, data)
    net.load_state_dict(checkpoint.load_weights(run.folder, run.id))
    return net


def parameter_groups(net: nn.Module, trained: list[nn.Parameter], decay_batchnorm: bool) -> list[dict]:
    """Optimiser groups of the trained parameters; without `decay_batchnorm`, batch norm's in one without decay."""
    norms = {id(p) for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    if decay_batchnorm:
        return [{"params": trained}]
    return [
        {"params": [p for p in trained if id(p) not in norms]},
        {"params": [p for p in trained if id(p) in norms], "weight_decay": 0.0},
    ]


class _Training:
    """One run while it trains."""

    def __init__(self, run: Run, device: torch.device, checkpoint_seconds: float) -> None:
        self.run, self.spec, self.device = run, run.spec, device
        self.checkpoint_seconds = checkpoint_seconds
        self.checkpoint_path = run.folder / "checkpoint.pt"
        self.metrics_path = run.folder / "metrics.partial.csv"

        data = load_packed(run.data.path)
        self.data_sha256 = data.sha256
        self.batches = Batches(data, self.spec, device)
        self.test_images = torch.from_numpy(data.images["test"]).to(device)
        self.test_labels = torch.from_numpy(data.labels["test"]).to(device)

        net = finished_net(run.start, data) if run.start else initial_net(run, data)
        self.net = net.to(device, memory_format=torch.channels_last).train()
        self.teacher = None
        if run.teacher:
            teacher = finished_net(run.teacher, data).to(device, memory_format=torch.channels_last)
            self.teacher = teacher.eval().requires_grad_(False)
        method = self.spec.method
        teacher_network = run.teacher.spec.network if run.teacher else None
        objective = OBJECTIVES[method.method](
            method, self.spec.seed, self.spec.stream, self.spec.network, teacher_network
        )
        self.objective = objective.to(device)
        taps = objective.student_taps
        student_parameters = net.parameters_to(taps) if taps else list(net.parameters())
        self.trained = [*student_parameters, *objective.parameters()]
        training = self.spec.training
        self.optimizer = torch.optim.SGD(
            parameter_groups(net, self.trained, training.decay_batchnorm),
            lr=learning_rate(self.spec.schedule, 0),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            fused=True,
        )
        self.done = 0  # iterations
        self.seconds = 0.0  # of training, all attempts together
        gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
        attempt = {"device": gpu or "cpu", "threads": torch.get_num_threads(), **provenance()}
        self.attempts: list[dict] = []  # what has trained this run, and from which iteration on
        self.stop_signal: int | None = None
        self.logits: Tensor | None = None  # of the last test
        self.metrics = MetricsFile(self.metrics_path, self._resume(attempt["package_sha256"]))
        self.attempts.append({"from_iteration": self.done, **attempt})
        self.pending: list[tuple[Tensor, Tensor]] = []  # loss and gradient norm of iterations not yet fetched

    # --- the loop -----------------------------------------------------------------------------------------

    def to_the_end(self) -> None:
        show = Progress(self.run.id, self.done, self.run.iterations)
        before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGTERM, signal.SIGINT)}
        fetched = saved = self.since = time.monotonic()
        try:
            while self.done < self.run.iterations:
                self.pending.append(self._step(self.done))
                self.done += 1
                test = self._test() if self._test_is_due() else (None, None)
                now = time.monotonic()
                stop = self.stop_signal  # read once: a signal after this line waits for the next iteration
                save = stop or now - saved > self.checkpoint_seconds
                if (
                    save
                    or test[0] is not None
                    or now - fetched > SECONDS_BETWEEN_FETCHES
                    or self.done == self.run.iterations
                ):
                    loss = self._fetch(*test)
                    if save:
                        self._save()
                        saved = time.monotonic()
                    show.update(self.done, loss, test[1])
                    fetched = now
                if stop:
                    print(f"{self.run.id}: signal {stop}, saved at iteration {self.done}", flush=True)
                    raise SystemExit(128 + stop)
            self._save()
            self._finish()
        finally:
            show.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _step(self, iteration: int) -> tuple[Tensor, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.spec.schedule, iteration)
        images, labels = self.batches(iteration)
        loss = self.objective(self.net, self.teacher, images, labels, progress(self.spec.schedule, iteration))
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in self.trained])
        self.optimizer.step()
        return loss.detach(), norm

    def _on_signal(self, number: int, frame: object) -> None:
        self.stop_signal = number

    # --- measurements -------------------------------------------------------------------------------------

    def _test_is_due(self) -> bool:
        every = self.spec.training.evaluate_every
        return self.run.stage == 2 and (self.done % every == 0 or self.done == self.run.iterations)

    def _test(self) -> tuple[float, float]:
        """The loss and accuracy on the test images; the predictions are kept for the run's end."""
        self.logits = predict(self.net, self.test_images)
        accuracy, loss = accuracy_and_loss(self.logits, self.test_labels)
        return loss, accuracy

    def _fetch(self, test_loss: float | None, test_accuracy: float | None) -> float:
        """Bring the measurements since the last call from the device to metrics.csv; the last loss."""
        values = torch.stack([torch.stack(pair) for pair in self.pending]).tolist()
        first = self.done - len(values)
        for iteration, (loss, norm) in enumerate(values, first + 1):
            for what, value in (("loss", loss), ("gradient norm", norm)):
                if not math.isfinite(value):
                    self._raise_not_finite(what, value, iteration)
        rows = [
            (iteration, learning_rate(self.spec.schedule, iteration - 1), loss, norm, None, None)
            for iteration, (loss, norm) in enumerate(values, first + 1)
        ]
        rows[-1] = (*rows[-1][:4], test_loss, test_accuracy)
        self.metrics.append(rows)
        self.pending.clear()
        return values[-1][0]

    def _raise_not_finite(self, what: str, value: float, iteration: int) -> None:
        method = self.spec.method
        settings = ", ".join(f"{k} = {v!r}" for k, v in method.model_dump(exclude={"schedule", "teacher"}).items())
        raise UserError(
            f"run {self.run.id}: iteration {iteration}: the {what} is {value}: training has diverged. It ran with {settings} "
            f"at a learning rate of {learning_rate(self.spec.schedule, iteration - 1):g}. Lower the rate (schedule "
            f"{method.schedule!r} of the preset) or the weight of the loss."
        )

    # --- what is on disk ----------------------------------------------------------------------------------

    def _save(self) -> None:
        now = time.monotonic()
        self.seconds, self.since = self.seconds + now - self.since, now
        content = {
            "run": self.run.id,
            "data_sha256": self.data_sha256,
            "iteration": self.done,
            "net": self.net.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics_bytes": self.metrics.sync(),
            "seconds": self.seconds,
            "attempts": self.attempts,
        }
        checkpoint.save(content, self.checkpoint_path)

    def _resume(self, package_sha256: str) -> int:
        """Go to the checkpoint, if there is one of use; the size of the metrics file as it was then."""
        if not self.checkpoint_path.exists():
            return 0
        advice = f"Delete the folder {self.run.folder} to train that net from its start."
        saved = checkpoint.load(self.checkpoint_path, self.run.id, advice)
        if saved["data_sha256"] != self.data_sha256:
            print(f"{self.run.id}: its checkpoint was trained on other images, so it starts anew", flush=True)
            return 0
        if saved["attempts"][-1]["package_sha256"] != package_sha256:
            if saved["iteration"] == self.run.iterations:
                print(f"{self.run.id}: the code has changed since it was trained, so it starts anew", flush=True)
                return 0
            print(f"{self.run.id}: the code has changed since its checkpoint; the manifest tells", flush=True)
        self.net.load_state_dict(saved["net"])
        self.objective.load_state_dict(saved["objective"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.done, self.seconds = saved["iteration"], saved["seconds"]
        self.attempts = saved["attempts"]
        print(f"{self.run.id}: goes on from its checkpoint at iteration {self.done}", flush=True)
        return saved["metrics_bytes"]

    def _finish(self) -> None:
        folder = self.run.folder
        state = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        weights = {"run": self.run.id, "sha256": checkpoint.weights_sha256(state), "state": state}
        checkpoint.save(weights, folder / "weights.pt")
        accuracy = None
        if self.run.stage == 2:
            if self.logits is None:  # a finished run that only writes its outputs again
                self._test()
            accuracy, _ = accuracy_and_loss(self.logits, self.test_labels)
            save_predictions(folder / "predictions.npz", self.logits, self.test_labels)
        write_atomically(folder / "metrics.csv", self.metrics_path.read_bytes())
        outputs = [f for f in ("metrics.csv", "weights.pt", "predictions.npz") if (folder / f).exists()]
        manifest = {
            "run": self.run.id,
            "iterations": self.done,
            "test_accuracy": accuracy,
            "weights_sha256": weights["sha256"],
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "data_sha256": self.data_sha256,
            "outputs_sha256": {name: file_sha256(folder / name) for name in outputs},
            "attempts": self.attempts,
        }
        write_atomically(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
