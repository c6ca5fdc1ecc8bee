"""The measurements of a run: a row for each iteration, appended while it trains."""

import os
from pathlib import Path

from fspkd.errors import UserError
from fspkd.files import growing

COLUMNS = ("iteration", "learning_rate", "loss", "gradient_norm", "test_loss", "test_accuracy")


class MetricsFile:
    """A growing CSV file that can go back to where a checkpoint was taken.

    Columns: iteration (from 1), learning rate, loss and gradient norm of that iteration's batch and, where they were
    measured after it, test loss and test accuracy in percent.
    """

    def __init__(self, path: Path, keep_bytes: int) -> None:
        self.path = path
        try:
            self._file = path.open("a+b")
            if self._file.seek(0, os.SEEK_END) < keep_bytes:
                raise UserError(
                    f"{path}: is shorter than its checkpoint says. Delete the folder {path.parent} and train that net again."
                )
            self._file.truncate(keep_bytes)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}. Make the folder writable.") from None
        if not keep_bytes:
            self.append([COLUMNS])

    def append(self, rows: list[tuple]) -> None:
        """Append rows; raises UserError where the disk is full."""
        lines = (",".join("" if v is None else v if isinstance(v, str) else f"{v:.9g}" for v in row) for row in rows)
        with growing(self.path):
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()

    def sync(self) -> int:
        """Bring everything to the disk; the file's size in bytes."""
        with growing(self.path):
            os.fsync(self._file.fileno())
            return self._file.tell()
