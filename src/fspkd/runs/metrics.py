"""The metrics of a finished run, as a data frame. Imports no torch."""

import pandas as pd

from fspkd.runs.folder import RunFolder


def load_metrics(folder: RunFolder) -> pd.DataFrame:
    """A row for each iteration, indexed by its number, which begins at 1.

    A long run is exported with means of the loss over a few iterations, each of which gets their mean here. Raises UserError
    if the file does not match the manifest.
    """
    metrics = pd.read_csv(folder.vouched(folder.metrics), index_col="iteration")
    metrics = metrics.reindex(pd.RangeIndex(1, metrics.index[-1] + 1, name="iteration"))
    return metrics.assign(loss=metrics["loss"].bfill())
