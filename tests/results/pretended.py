"""Finished runs with known predictions."""

import pandas as pd
import torch
from conftest import Project
from finished import finish, measure, predict

LABELS = torch.tensor([0, 1, 2, 2])


def pretend(project: Project) -> None:
    """Folders of finished runs with known predictions: each net of a row is wrong about a different image."""
    for run in project.plan().runs.values():
        finish(run)
        if run.spec.stage == 2:
            wrong = run.spec.number - 1
            logits = 2.0 * torch.nn.functional.one_hot(LABELS, 3).float()
            logits[wrong] = torch.tensor([0.5, 0.0, 0.0]) if LABELS[wrong] else torch.tensor([0.0, 0.5, 0.0])
            predict(run, logits, LABELS)
            loss = 2.0 if run.spec.row == "teacher" else 1.0
            frame = pd.DataFrame({"iteration": range(1, run.spec.iterations + 1), "loss": loss, "test_accuracy": 50.0})
            measure(run, frame)
