"""The measurements of a run: a row for each iteration, appended while it trains."""

import hashlib
import os
from pathlib import Path

from fspkd.errors import UserError, advice
from fspkd.files import Prefix, growing

COLUMNS = ("iteration", "learning_rate", "loss", "gradient_norm", "test_loss", "test_accuracy")
VALIDATION_COLUMNS = ("validation_loss", "validation_accuracy")  # of runs that stop by validation


class MetricsFile:
    """A growing CSV file that can be cut back to a checkpoint.

    Columns: iteration (from 1), learning rate, loss and gradient norm of that iteration's batch and, where they were
    measured after it, test loss and test accuracy in percent; for runs that stop by validation, the same on validation
    images, where a first stage's loss is its method's.
    """

    def __init__(self, path: Path, keep: Prefix, validation: bool) -> None:
        self.path = path
        self.columns = (*COLUMNS, *VALIDATION_COLUMNS) if validation else COLUMNS
        try:
            self._file = path.open("a+b")
            self._file.truncate(keep.bytes)
            self._file.seek(0)
            self._sha256 = hashlib.file_digest(self._file, "sha256")
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}. {advice(error)}.") from None
        if not keep.bytes:
            self.append([self.columns])

    def append(self, rows: list[tuple]) -> None:
        """Append rows, which may leave out their last values; raises UserError if the disk is full."""
        whole = ((*row, *[None] * (len(self.columns) - len(row))) for row in rows)
        lines = (",".join("" if v is None else v if isinstance(v, str) else f"{v:.9g}" for v in row) for row in whole)
        with growing(self.path):
            content = "".join(f"{line}\n" for line in lines).encode()
            self._file.write(content)
            self._file.flush()
            self._sha256.update(content)

    def sync(self) -> Prefix:
        """Flush everything to disk; return what is there."""
        with growing(self.path):
            os.fsync(self._file.fileno())
            return Prefix(self._file.tell(), self._sha256.hexdigest())
