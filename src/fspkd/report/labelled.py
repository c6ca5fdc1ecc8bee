"""CSV files with labels chosen by users."""

from pathlib import Path

import pandas as pd

LABELS = ("row", "curve", "panel", "method", "what")  # columns


def read_labelled(path: Path) -> pd.DataFrame:
    """Read a CSV file where only empty cells are missing, and labels stay text: one may be None, NA, null, 8 or True."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(LABELS, str))
