"""Twenty losses of each method and start, as an earlier version of the code computed them, with a C++ compiler.

A change that is not meant to change what is computed leaves them equal. To make new ones, after a change that is:
FSPKD_NEW_TRACES=1 pytest tests/numerics/test_traces.py
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project

from fspkd.models import kernels

TRACES = Path(__file__).parent / "traces"
TAUGHT = {"teacher": "teacher/1", "schedule": "long"}
METHODS = {
    "cross_entropy": {"method": "cross_entropy", "schedule": "long"},
    "kd": {"method": "kd", **TAUGHT},
    "hint": {"method": "hint", "teacher": "teacher/1", "schedule": "first", "sections": [1, 2]},
    "fsp": {"method": "fsp", "teacher": "teacher/1", "schedule": "first"},
    "fsp_shuffled": {"method": "fsp", "teacher": "teacher/1", "schedule": "first", "shuffle": "channel"},
    "attention_transfer": {"method": "attention_transfer", "weight": 30, **TAUGHT},
    "relational_kd": {"method": "relational_kd", **TAUGHT},
}
TOLERANCE = {"relational_kd": 1e-3}  # its losses moved by 1e-4 when batch norm's rounding changed; others' by 1e-6
STARTS = {"scratch": "scratch", "weights": "teacher/2"}


@pytest.mark.skipif(kernels.compiler() is None, reason="PyTorch's batch norm rounds elsewhere")
@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_before(project: Project, method: str) -> None:
    # Rates so low that rounding differences between processors do not grow, and a decay large enough to be seen.
    project.set("schedules.long", [{"until": 12, "rate": 5e-4}, {"until": 20, "rate": 5e-5}])
    project.set("schedules.first", [{"until": 12, "rate": 1e-5}, {"until": 20, "rate": 1e-6}])
    project.set("training.optimizer.weight_decay", 0.1)
    project.set("schedules.short", [{"until": 1, "rate": 0.01}])
    settings = METHODS[method]
    first = method in ("hint", "fsp", "fsp_shuffled")
    for name, start in STARTS.items():
        stages = {"stage2": {"method": "cross_entropy", "schedule": "short"}} | {
            "stage1" if first else "stage2": settings
        }
        project.set(f"rows.{name}", {"data": "images", "network": "net", "nets": 1, "start": start, **stages})
    project.train("teacher/1", "teacher/2", *(f"{name}/1" for name in STARTS))
    plan = project.plan()
    losses = {}
    for name in STARTS:
        run = plan.net(f"{name}/1")
        run = run.start if first else run
        losses[name] = pd.read_csv(run.folder.metrics)["loss"]
    made = pd.DataFrame(losses).rename_axis("iteration")
    made.index += 1
    assert made.shape == (20, 2)
    file = TRACES / f"{method}.csv"
    if os.environ.get("FSPKD_NEW_TRACES"):
        made.to_csv(file, float_format="%.9g")
    expected = pd.read_csv(file, index_col="iteration")
    np.testing.assert_allclose(made, expected, rtol=TOLERANCE.get(method, 3e-6))
