"""Finished runs and tables in a folder of results, for notebooks: nothing but that folder is needed, wherever it lies."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fspkd.errors import UserError
from fspkd.runs.folder import ExportedFolder, Manifest, RunFolder
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import RunSpec, run_in
from fspkd.settings import suggest

if TYPE_CHECKING:
    from fspkd.models.net import Net


@dataclass(frozen=True)
class SavedRun:
    """A finished run: a net through one stage. What is read is compared with the manifest's checksums first."""

    folder: RunFolder

    @property
    def id(self) -> str:
        return self.folder.path.name

    @cached_property
    def spec(self) -> RunSpec:
        """All that decided its outcome; raises UserError where this version of fspkd cannot read it."""
        return run_in(self.folder).spec

    @cached_property
    def manifest(self) -> Manifest:
        """When, where and from what it was made."""
        return self.folder.read_manifest()

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each iteration, by its number: learning rate, loss, norm of the gradient and, where tested, accuracy.

        Of an exported run without rate and norm.
        """
        return pd.read_csv(self.folder.vouched(self.folder.metrics), index_col="iteration")

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, K) and labels (N,) of the test images, in the order of the packed data; a first stage has none."""
        return load_predictions(self.folder.vouched(self.folder.predictions))

    def net(self) -> "Net":
        """The trained net, on the CPU and in eval mode: images (B, C, H, W) to logits (B, K).

        Images are in [0, 1], unless `manifest.images.preprocess` says that pixels were normalised: then they are as the packed
        file of the data set holds them (gcn_zca), or what `fspkd.engine.contrast` makes of values up to 255 (gcn_lcn).
        Its `taps(images, names)` gives the feature maps at named layers; `network.maps` are their names. Raises UserError for
        an exported run.
        """
        from fspkd.train.nets import finished_net

        if isinstance(self.folder, ExportedFolder):
            raise UserError(
                f"{self.folder}: was exported without its weights. The folder that it was trained in has them."
            )

        images = self.manifest.images
        return finished_net(run_in(self.folder), images.shape, len(images.classes)).eval()


class Results:
    """The finished runs and the tables of a folder of results, such as results/mini, or reproduction/tenth.

    Raises UserError where there are none.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        places = [place / "runs" for place in (self.folder, *self.folder.absolute().parents)]
        runs = next((place for place in places if place.is_dir()), None)
        if runs is None:
            raise UserError(
                f"{folder}: has no folder runs in it or above it. Give a folder of results, with the runs folder beside it."
            )
        self._runs = runs

    def _saved(self, name: str = "*") -> list[SavedRun]:
        """The finished runs, or that one."""
        folders = map(_folder, sorted(self._runs.glob(f"*/{name}")))
        return [SavedRun(folder) for folder in folders if folder.is_finished]

    def _readable(self) -> list[SavedRun]:
        """The finished runs, without those of another version of fspkd, of which a warning tells."""
        readable = []
        for run in self._saved():
            try:
                _ = run.spec, run.manifest
                readable.append(run)
            except UserError as error:
                warnings.warn(f"{error} It is left out.", stacklevel=3)
        if not readable:
            raise UserError(f"{self._runs}: no run in it is finished yet.")
        return readable

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each finished run, by id, whichever preset trained it; those of other presets may be among them."""
        runs = pd.DataFrame(
            {
                "id": run.id,
                "row": run.spec.row,
                "number": run.spec.number,
                "replicate": run.spec.replicate,
                "stage": run.spec.stage,
                "network": run.spec.network.name,
                "method": run.spec.method.method,
                "data": run.spec.data,
                "start": run.spec.start,
                "teacher": run.spec.teacher,
                "iterations": run.manifest.iterations,
                "test_accuracy": run.manifest.test_accuracy,
                "seconds": run.manifest.seconds,
                "preset": run.manifest.attempts[-1].preset,
            }
            for run in self._readable()
        )
        return runs.astype({"number": "Int64"}).set_index("id")

    def run(self, name: str) -> SavedRun:
        """The run of that id, or net such as student/2; raises UserError where there is none, or where there are several."""
        if "/" not in name and (saved := self._saved(name)):
            return saved[0]
        row, _, number = name.partition("/")
        runs = self.runs
        nets = runs[(runs["row"] == row) & (runs["number"].astype(str) == number) & (runs["stage"] == 2)]
        found = list(nets.index)
        if len(found) > 1:
            raise UserError(f"{name!r}: there are several in {self._runs}; give the id of one: {', '.join(found)}.")
        if not found:
            nets = runs[runs["stage"] == 2]
            known = [*sorted({f"{row}/{n}" for row, n in zip(nets["row"], nets["number"], strict=True)}), *runs.index]
            raise UserError(f"{name!r}: no such run in {self._runs}{suggest(name, known)}")
        return self._saved(found[0])[0]

    def table(self, name: str) -> pd.DataFrame:
        """A table, by the names of its rows; raises UserError where it is not made."""
        path = self.folder / f"{name}.csv"
        if not path.exists():
            there = [file.stem for file in self.folder.glob("*.csv")]
            raise UserError(f"{path}: no such table{suggest(name, there)}")
        return pd.read_csv(path, index_col=0)


def _folder(path: Path) -> RunFolder:
    """The folder of a run, or of an exported one, there."""
    exported = ExportedFolder(path)
    return exported if exported.metrics.exists() else RunFolder(path)
