"""Data sets and pretrained weights of a preset, and the files that they are packed into. Imports no torch."""

from dataclasses import dataclass, replace
from pathlib import Path

from fspkd.config.data import Data, Pretrained
from fspkd.networks.network import Network
from fspkd.settings import digest

PACKED = Path("data/packed")
DECIDING_PINNED = ("sha256", "size", "hold_out", "validation", "preprocess")  # settings in the id of pinned content
LOCATION_VARIABLE = "FSPKD_DATA_{name}"
WEIGHTS_VARIABLE = "FSPKD_WEIGHTS_{name}"


@dataclass(frozen=True)
class DataSet:
    """A data set of the preset, and where its images come from: `location`, or else its own source."""

    settings: Data
    location: str | None

    @property
    def id(self) -> str:
        """The name and a hash of what it holds: of the pinned content or, if nothing is pinned, of where it comes from,
        and of the hold-out, validation and preprocessing."""
        settings = self.settings.model_dump(mode="json", exclude={"augment"}, exclude_none=True)
        if self.settings.sha256:
            settings = {key: value for key, value in settings.items() if key in DECIDING_PINNED}
        elif self.location:
            settings["location"] = self.location
        return f"{self.settings.name}-{digest(settings)}"

    @property
    def whole(self) -> "DataSet":
        """The data set with no images held out or kept for validation, and not preprocessed."""
        nothing = {"hold_out": None, "validation": None, "preprocess": None}
        return replace(self, settings=self.settings.model_copy(update=nothing))

    @property
    def undivided(self) -> "DataSet":
        """The data set with its validation images back in the training images; pixels and test images are the same."""
        return replace(self, settings=self.settings.model_copy(update={"validation": None}))

    @property
    def place(self) -> str | None:
        """Where its images lie on this machine, if known."""
        return self.location or getattr(self.settings, "path", None)

    @property
    def path(self) -> Path:
        """The file that holds its images."""
        return PACKED / self.settings.name / f"{self.id.rsplit('-', 1)[1]}.npz"


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights that were trained elsewhere, from `location`, from a file that the preset names, or by a download."""

    name: str
    settings: Pretrained
    network: Network
    location: str | None
    whole: bool = False
    """with the linear layer, for a teacher"""

    @property
    def id(self) -> str:
        decided_by = [self.settings.sha256, self.network.model_dump(mode="json", exclude_none=True)]
        return f"{self.name}-{digest([*decided_by, 'whole'] if self.whole else decided_by)}"

    @property
    def place(self) -> str | None:
        """Where they lie on this machine, if known."""
        return self.location or (self.settings.weights if self.settings.is_file else None)

    @property
    def path(self) -> Path:
        """The file that holds them."""
        return PACKED / self.name / f"{self.id.rsplit('-', 1)[1]}.pt"

    @property
    def weights(self) -> Path:
        """`path`, by the name that `Run` has for it: nets start and learn from either."""
        return self.path
