"""The folder of a run: the only place that knows its files. Imports no torch.

While a run trains, its folder holds a checkpoint, growing measurements, a journal, and the machine's usage. At the
end come weights, metrics, the predictions of a last stage and, at the very end, the manifest with their checksums.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from fspkd.errors import DamagedError, UserError, advice, is_of_the_machine
from fspkd.files import file_sha256, write_atomically

RUNS = Path("results/runs")  # of all presets: those with the same specification share a run
CHECKSUM = "checksum"  # the last key of a manifest
ON_CPU = ("threads", "processor", "onednn_instructions", "mkl_cbwr", "compiler")  # what decides bits there alone
KIND = ("device", "precision", "instructions", *ON_CPU, "driver", "cudnn")  # what decides an attempt's bits
PHASES = ("teachers", "stage1", "students")


class Record(BaseModel):
    """A record written by a run; keys added by later versions of this package are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Attempt(Record):
    """What trained a run from an iteration on: code, machine, and what decides the bits of a result there.

    A field that is added needs a default, for earlier attempts.
    """

    from_iteration: int
    preset: str | None = None
    """for which it was trained; others may share it"""
    git_commit: str | None
    code_sha256: dict[str, str]
    """of the parts of the code that decide a run's outcome"""
    versions: dict[str, str]
    host: str
    job_id: str | None = None
    """SLURM's"""
    gpu: str | None = None
    """its number on the node"""
    device: str
    """the GPU's name, or cpu"""
    precision: str
    """that nets were computed in, whatever the preset asked for"""
    threads: int
    processor: str
    """its model"""
    instructions: str
    """the instruction set that PyTorch's own kernels use"""
    onednn_instructions: str | None
    """the instruction set that oneDNN, which computes convolutions, uses"""
    mkl_cbwr: str | None = None
    """the instruction set that the variable MKL_CBWR sets for MKL, which computes matrix products"""
    compiler: str | None = None
    """and its version, if it built code that trains the net; None if only PyTorch's own kernels do"""
    driver: str | None = None
    """the GPU's"""
    cudnn: int | None = None

    @property
    def kind(self) -> dict[str, str]:
        """What decides the bits of a result, besides code and inputs, by name."""
        on_cpu = self.device == "cpu"
        names = [name for name in KIND if on_cpu or name not in ON_CPU]
        kind = {name.replace("_", " "): getattr(self, name) for name in names} | {"torch": self.versions.get("torch")}
        if on_cpu:
            kind["compiler"] = self.compiler or "none"
        return {what: str(value) for what, value in kind.items() if value is not None}


class ImageFacts(Record):
    """The images a run's net takes."""

    shape: tuple[int, int, int]
    """channels, height, width"""
    classes: tuple[str, ...]
    """their names"""
    preprocess: str | None = None
    """how their pixels were normalised, gcn_zca or gcn_lcn; without it they are in [0, 1]"""


class Manifest(Record):
    """The record of a finished run."""

    run: str
    iterations: int
    """that were run"""
    best_iteration: int | None = None
    """whose weights were kept, if the run stops by validation; otherwise the last one's were"""
    best_validation: float | None = None
    """what was measured there on validation images: a first stage's loss, or a last stage's error in percent"""
    test_accuracy: float | None
    """in percent; None for a first stage"""
    weights_sha256: str
    """of the tensors, not the file"""
    finished: str
    """UTC, ISO 8601"""
    seconds: float
    """of training, all attempts together"""
    images: ImageFacts
    inputs_sha256: dict[str, str | None]
    """of the data, and of the weights that it starts and learns from"""
    outputs_sha256: dict[str, str]
    """of the files beside the manifest, by name"""
    attempts: tuple[Attempt, ...]


def _checksum(content: dict) -> str:
    """The SHA-256 of a manifest's other keys and values."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def _checked(content: dict) -> dict:
    """A manifest without its checksum; raises ValueError if it is not as it was written.

    Those from before there were checksums have none, and no unknown keys.
    """
    checksum = content.pop(CHECKSUM, None)
    unknown = content.keys() - Manifest.model_fields.keys()
    if unknown if checksum is None else checksum != _checksum(content):
        raise ValueError("it is damaged")
    return content


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, <phase>/<run>, and the paths of the files in it."""

    path: Path

    @property
    def phase(self) -> str:
        """One of PHASES."""
        return self.path.parent.name

    @property
    def specification(self) -> Path:
        """All that decides the outcome, as YAML."""
        return self.path / "run.yaml"

    @property
    def weights(self) -> Path:
        return self.path / "weights.pt"

    @property
    def metrics(self) -> Path:
        """A row for each iteration."""
        return self.path / "metrics.csv"

    @property
    def predictions(self) -> Path:
        """Of a last stage, for the test images."""
        return self.path / "predictions.npz"

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.json"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before, for use if the last one is damaged; removed when the run is finished."""
        return self.path / "checkpoint.previous.pt"

    @property
    def growing_metrics(self) -> Path:
        return self.path / "metrics.partial.csv"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def usage(self) -> Path:
        """The machine's usage while it trained."""
        return self.path / "usage.csv"

    @property
    def lock(self) -> FileLock:
        """Held by the process that trains; never a marker file, which would outlive a killed process."""
        return FileLock(self.path / "lock", fallback_to_soft=False)

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def outputs(self, stage: int) -> tuple[Path, ...]:
        """The files that a finished run of that stage provides, besides the manifest."""
        return (self.metrics, self.weights, *([self.predictions] if stage == 2 else []))

    @property
    def is_finished(self) -> bool:
        return self.manifest.exists()

    @property
    def is_training(self) -> bool:
        """Whether a process is training the run now."""
        try:
            if (self.path / "lock").exists():
                with self.lock.acquire(blocking=False):
                    pass
        except Timeout:
            return True
        except (OSError, NotImplementedError):  # a folder that cannot be locked: nobody trains there
            return False
        return False

    def read_manifest(self) -> Manifest:
        """The manifest of a finished run.

        Raises DamagedError if it is missing, damaged or another run's, and UserError if the system cannot read it.
        """
        again = f"Delete it, if it exists, and make it again: snakemake {self.manifest}"
        try:
            content = json.loads(self.manifest.read_bytes())
            manifest = Manifest.model_validate(_checked(content), strict=False)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, OSError) and is_of_the_machine(error):
                raise UserError(f"{self.manifest}: cannot be read: {error.strerror}. {advice(error)}.") from None
            reason = (
                error.errors()[0]["msg"] if isinstance(error, ValidationError) else getattr(error, "strerror", None)
            )
            raise DamagedError(f"{self.manifest}: cannot be read ({reason or error}). {again}") from None
        if manifest.run != self.path.name:
            raise DamagedError(f"{self.manifest}: belongs to another run, {manifest.run}. {again}")
        return manifest

    def write_manifest(self, manifest: Manifest) -> None:
        content = manifest.model_dump(mode="json")
        content[CHECKSUM] = _checksum(content)
        write_atomically(self.manifest, f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode())

    def outputs_sha256(self, stage: int) -> dict[str, str]:
        """The checksums of the outputs as they are now."""
        return {file.name: file_sha256(file) for file in self.outputs(stage)}

    def vouched(self, file: Path) -> Path:
        """An output of a finished run, if it matches the manifest; raises UserError if it does not."""
        expected = self.read_manifest().outputs_sha256.get(file.name)
        if file.is_file() and file_sha256(file) == expected:
            return file
        raise UserError(
            f"{file}: is missing, or does not match {self.manifest.name} beside it. Delete {self.manifest} and make both "
            f"again: snakemake {self.manifest}"
        )

    def damaged_outputs(self) -> list[Path]:
        """The outputs of a finished run that are missing or do not match its manifest; the manifest if that is damaged."""
        try:
            expected = {self.path / name: sha256 for name, sha256 in self.read_manifest().outputs_sha256.items()}
        except DamagedError:
            return [self.manifest]
        return [file for file, sha256 in expected.items() if not file.is_file() or file_sha256(file) != sha256]

    def remove_left_overs(self) -> None:
        """Remove temporary files that killed processes have left."""
        for left_over in self.path.glob(".*.tmp"):
            left_over.unlink()


class ExportedFolder(RunFolder):
    """The folder of an exported run; the manifest is that of the original run."""

    @property
    def metrics(self) -> Path:
        """A row for each iteration, without its learning rate and the norm of its gradient."""
        return self.path / "metrics.csv.gz"

    def vouched(self, file: Path) -> Path:
        """A file, unchecked: the manifest has the checksums of the original files."""
        return file
