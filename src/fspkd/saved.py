"""Finished runs and tables in a folder of results, for notebooks: nothing but that folder is needed, wherever it lies.

If the presets lie beside it, they say which runs belong to the folder's own preset.
"""

import os
import warnings
from contextlib import chdir, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fspkd.config.load import CONFIG, preset_files
from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans
from fspkd.report.labelled import read_labelled
from fspkd.result import Result
from fspkd.runs.folder import RUNS, ExportedFolder, Manifest, RunFolder
from fspkd.runs.metrics import load_metrics
from fspkd.runs.predictions import load_predictions
from fspkd.runs.spec import RunSpec, run_in
from fspkd.settings import suggest

if TYPE_CHECKING:
    from fspkd.models.net import Net


NAMED = 5  # nets in a warning


@dataclass(frozen=True)
class SavedRun:
    """A finished run: a net through one stage. Files that it reads are checked against its manifest."""

    folder: RunFolder

    @property
    def id(self) -> str:
        return self.folder.path.name

    @cached_property
    def spec(self) -> RunSpec:
        """All that decided its outcome; raises UserError if this version of fspkd cannot read it."""
        return run_in(self.folder).spec

    @cached_property
    def manifest(self) -> Manifest:
        """When, where and from what it was made."""
        return self.folder.read_manifest()

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each iteration, by its number: learning rate, loss, gradient norm and, where tested, accuracy.

        An exported run has no rate and norm, and of a long one, each loss is the mean over a few iterations around it.
        """
        return load_metrics(self.folder)

    @property
    def predictions(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, K) and labels (N,) of the test images, in the order of the packed data: by label, then by SHA-256.

        An exported run's logits are less each image's highest, and float16 unless that changes a prediction. Raises
        UserError for a first stage, which has none.
        """
        if self.spec.stage == 1:
            raise UserError(
                f"{self.folder}: is a first stage, which has no predictions. See the run that starts from it."
            )
        logits, labels = load_predictions(self.folder.vouched(self.folder.predictions))
        return logits, labels.astype(np.int64)

    def net(self) -> "Net":
        """The trained net, on the CPU and in eval mode: images (B, C, H, W) to logits (B, K).

        Images are in [0, 1], unless `manifest.images.preprocess` says that pixels were normalised: then they are as in the
        data set's packed file (gcn_zca), or what `fspkd.engine.contrast` makes of values up to 255 (gcn_lcn). Its
        `taps(images, names)` returns the feature maps at named layers; `network.maps` are their names. Raises UserError for
        a run that was exported without its weights.
        """
        from fspkd.train.nets import finished_net

        if isinstance(self.folder, ExportedFolder) and not self.folder.weights.exists():
            raise UserError(
                f"{self.folder}: was exported without its weights. The folder that it was trained in has them."
            )

        images = self.manifest.images
        return finished_net(run_in(self.folder), images.shape, len(images.classes)).eval()


class Results:
    """The finished runs and the tables of a folder of results, such as results/mini, or reproduction/paper.

    The runs are those of the preset that writes there, as it is now in config/ beside results/. If there is no such preset,
    as for results/runs, or, with a warning, if it is not valid, they are all that lie there. Raises UserError if there is
    no folder of runs.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        places = [place / RUNS.name for place in (self.folder, *self.folder.absolute().parents)]
        runs = next((place for place in places if place.is_dir()), None)
        if runs is None:
            raise UserError(
                f"{folder}: has no runs/ folder in it or above it. Give a folder of results, with runs/ in it or beside it."
            )
        self._runs = runs

    @cached_property
    def _plan(self) -> Plan | None:
        """The plan of the preset that writes to the folder; None if there is no valid one."""
        # Without following links: results/ may be one.
        place, runs = (Path(os.path.normpath(path.absolute())) for path in (self.folder, self._runs))
        if runs.parts[-2:] != RUNS.parts or place == runs or not preset_files((top := runs.parents[1]) / CONFIG):
            return None
        results = place.relative_to(top).as_posix()
        with chdir(top):  # paths in presets are relative to it
            plans, problems = load_plans(only={results})
        if problems and not plans:
            warnings.warn(f"{problems[0]} Until this is fixed, the runs of all presets are shown.", stacklevel=3)
        return plans.get(results)

    def _saved(self, name: str = "*") -> list[SavedRun]:
        """The finished runs there, or only that one."""
        folders = map(_folder, sorted(self._runs.glob(f"*/{name}")))
        return [SavedRun(folder) for folder in folders if folder.is_finished]

    @cached_property
    def _readable(self) -> list[SavedRun]:
        """The preset's finished runs; those that this version of fspkd cannot read give a warning."""
        readable, former = [], 0
        for run in self._saved():
            if self._plan and run.id not in self._plan.runs:
                with suppress(UserError):
                    former += run.manifest.attempts[-1].preset == self._plan.preset.name
                continue
            try:
                _ = run.spec, run.manifest
                readable.append(run)
            except UserError as error:
                warnings.warn(f"{error} This run is left out.", stacklevel=3)
        if self._plan and former:
            warnings.warn(
                f"{self._runs}: {former} finished runs were trained for preset {self._plan.preset.name!r} with other settings "
                f"than it has now, or with data in another place (FSPKD_DATA_...).{self._others}",
                stacklevel=3,
            )
        if not readable:
            raise UserError(f"{self._runs}: no run{self._of_preset} in it is finished yet.{self._others}")
        return readable

    @property
    def _of_preset(self) -> str:
        return f" of preset {self._plan.preset.name!r}" if self._plan else ""

    @property
    def _others(self) -> str:
        """Where to find runs that are not in the preset as it is now."""
        return (
            f" fspkd.results({str(self._runs)!r}) has those of all presets and former settings." if self._plan else ""
        )

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each finished run of the preset, by id; another preset that shares one may have trained it."""
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
            for run in self._readable
        )
        return runs.astype({"number": "Int64"}).set_index("id")

    def run(self, name: str, replicate: int = 1) -> SavedRun:
        """The run with that id, of any preset, or the net of a replicate, such as student/2.

        Raises UserError if there is none, or if there are several.
        """
        if "/" not in name and (saved := self._saved(name)):
            return saved[0]
        row, _, number = name.partition("/")
        last = self.runs[self.runs["stage"] == 2]
        nets = last[(last["row"] == row) & (last["number"].astype(str) == number)]
        found = list(nets.index[nets["replicate"] == replicate])
        if len(found) == 1:
            return self._saved(found[0])[0]
        what = f"{name!r}, replicate {replicate}" if replicate > 1 or len(nets) else repr(name)
        if found:
            raise UserError(
                f"{what}: there are several in {self._runs}; give the id of one: {', '.join(found)}. To see which "
                f"settings differ, call `differences` with these ids."
            )
        known = [*sorted({f"{r}/{n}" for r, n in zip(last["row"], last["number"], strict=True)}), *self.runs.index]
        there = ", ".join(map(str, sorted(set(nets["replicate"]))))
        told = f"; existing replicates: {there}" if there else suggest(name, known)
        told += "" if told.endswith("?") else "."
        raise UserError(f"{what}: no such run{self._of_preset} in {self._runs}{told}{self._others}")

    def differences(self, *names: str) -> pd.DataFrame:
        """The settings in which finished runs differ: those with these ids, or nets such as student/2, or else all.

        A row for each run, by id, and a column for each setting, by its dotted name in `spec`. Raises UserError as `run` does.
        """
        runs = [self.run(name) for name in names] or self._readable
        settings = pd.json_normalize([run.spec.model_dump(mode="json") for run in runs])
        settings.index = pd.Index([run.id for run in runs], name="id")
        return settings.loc[:, settings.astype(str).nunique(dropna=False) > 1]

    def table(self, name: str) -> pd.DataFrame:
        """A table, indexed by row name; raises UserError if it is not made yet.

        A warning says if the preset has been changed since, so that nets of it are not trained yet.
        """
        path = self.folder / f"{name}.csv"
        if not path.exists():
            there = [file.stem for file in self.folder.glob("*.csv")]
            raise UserError(f"{path}: no such table{suggest(name, there)}")
        if self._plan and name in self._plan.preset.tables:
            with chdir(self._runs.parents[1]):
                gone = [run.id for run in Result(self._plan, "table", name).runs if not run.folder.is_finished]
            if gone:
                told = f"{', '.join(gone[:NAMED])}{' and others' if gone[NAMED:] else ''}"
                warnings.warn(
                    f"{path}: was made for other nets than the preset has now, some of which are not trained yet: {told}. Make "
                    f"it again: snakemake {self._plan.preset.results}/{path.name}",
                    stacklevel=2,
                )
        frame = read_labelled(path)
        return frame.set_index(frame.columns[0])


def _folder(path: Path) -> RunFolder:
    """The folder at a path, of a run or an exported one."""
    exported = ExportedFolder(path)
    return exported if exported.metrics.exists() else RunFolder(path)
