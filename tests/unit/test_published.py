"""Published numbers: none changes unnoticed, and derived ones agree with the others."""

import pandas as pd
import pytest
from conftest import REPOSITORY

from fspkd.files import file_sha256

CHECKED = {  # first digits of their SHA-256; correcting a number changes one of these
    "fitnets/reference/figure2_depth.csv": "ac069c2b88",
    "fitnets/reference/table1_cifar10.csv": "a2e3bb356f",
    "fitnets/reference/table2_cifar100.csv": "7b3f189fef",
    "fitnets/reference/table3_svhn.csv": "2b38fd1095",
    "fitnets/reference/table4_mnist.csv": "24fdb60499",
    "fitnets/reference/table5_tradeoff.csv": "b2e52e0db9",
    "fsp/reference/check.csv": "b23f99f8ae",
    "fsp/reference/table1_cifar10.csv": "93634ee472",
    "fsp/reference/table2_cifar100.csv": "e423674203",
    "fsp/reference/table3_cifar10_resnet8.csv": "7ceb5ad641",
    "fsp/reference/table4_cifar100_resnet14.csv": "2440bf7012",
    "fsp/reference/table5_cub200_resnet20.csv": "14f428fff6",
    "fsp/reference/timing.csv": "776193fa38",
}


def published(file: str, label: str = "row") -> pd.DataFrame:
    return pd.read_csv(REPOSITORY / "config" / file).set_index(label)


def test_no_published_number_has_changed() -> None:
    folder = REPOSITORY / "config"
    found = {str(file.relative_to(folder)): file_sha256(file)[:10] for file in folder.glob("*/reference/*.csv")}
    assert CHECKED.items() <= found.items()  # of your own papers there may be others


@pytest.mark.parametrize("name", ["table1_cifar10", "table2_cifar100"])
def test_averages_are_those_of_the_nets(name: str) -> None:
    table = published(f"fsp/reference/{name}.csv")
    assert table.filter(regex=r"^net\d$").mean(axis=1).values == pytest.approx(table["average"].values, abs=0.007)


def test_speed_ups_follow_from_the_seconds() -> None:
    """For 64,000 iterations, and 21,000 in each of two stages; the paper rounds the teachers' 8.53 hours to 8.6."""
    values = published("fsp/reference/timing.csv", "what")["value"].tolist()
    normal, on_the_fly, saved = values[:3]
    students, with_saved = (21_000 * first + 3 * 21_000 * normal for first in (on_the_fly, saved))
    teachers, shuffled = 3 * 64_000 * normal, 3 * 21_000 * (saved + normal)
    assert values[3:5] == pytest.approx([teachers / 360_000, students / 360_000], abs=0.07)
    assert values[5:] == pytest.approx([8.6 / 4.84, teachers / with_saved, teachers / shuffled], abs=0.005)


def test_fitnets_tables_agree_with_each_other() -> None:
    """Compression rates use the rounded weights; Table 1's nets are Table 5's."""
    table1, table5 = (published(f"fitnets/reference/table{name}.csv") for name in ("1_cifar10", "5_tradeoff"))
    assert 9e6 / table5["weights"].values == pytest.approx(table5["compression"].values, abs=0.0051)
    assert table1["accuracy"][["FitNet", "Teacher"]].tolist() == table5["accuracy"][["FitNet 4", "Teacher"]].tolist()
    assert table1["parameters"][["FitNet", "Teacher"]].tolist() == table5["weights"][["FitNet 4", "Teacher"]].tolist()
