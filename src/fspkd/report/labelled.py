"""CSV files whose labels somebody chose."""

from pathlib import Path

import pandas as pd


def read_labelled(path: Path) -> pd.DataFrame:
    """A CSV file in which an empty cell is missing, and a label may be None, NA or null."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])
