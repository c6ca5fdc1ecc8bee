"""CSV files with labels chosen by users."""

from pathlib import Path

import pandas as pd


def read_labelled(path: Path) -> pd.DataFrame:
    """Read a CSV file where only empty cells are missing: a label may be None, NA or null."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
