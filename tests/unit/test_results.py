"""Averages, ensembles, tables and figures from known predictions."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project

from fspkd import evaluate, figures, tables
from fspkd.errors import UserError

LABELS = torch.tensor([0, 1, 2, 2])


def pretend(project: Project) -> None:
    """Folders of finished runs with known predictions: each net of a row is wrong about another image."""
    for run in project.plan().runs.values():
        run.folder.mkdir(parents=True)
        manifest = {"iterations": run.iterations, "attempts": [{"code_sha256": {"engine": "0", "method": "0"}}]}
        (run.folder / "manifest.json").write_text(json.dumps(manifest))
        if run.stage == 2:
            logits = 2.0 * torch.nn.functional.one_hot(LABELS, 3).float()
            logits[run.net - 1] = (
                torch.tensor([0.5, 0.0, 0.0]) if LABELS[run.net - 1] else torch.tensor([0.0, 0.5, 0.0])
            )
            evaluate.save_predictions(run.folder / "predictions.npz", logits, LABELS)
            frame = pd.DataFrame({"iteration": range(1, run.iterations + 1), "loss": 1.0, "test_accuracy": 50.0})
            frame.to_csv(run.folder / "metrics.csv", index=False)


def test_ensemble_is_the_mean_of_the_softmax_outputs() -> None:
    first, second = np.array([[0.6, 0.4], [0.9, 0.1]]), np.array([[0.1, 0.9], [0.4, 0.6]])
    assert evaluate.ensemble([first, second]) == pytest.approx(np.array([[0.35, 0.65], [0.65, 0.35]]))
    assert evaluate.accuracy(first, np.array([0, 0])) == 100
    assert evaluate.accuracy(evaluate.ensemble([first, second]), np.array([0, 0])) == 50


def test_table_has_nets_average_ensemble_iterations_and_published_values(project: Project) -> None:
    pretend(project)
    table = tables.make_table(project.plan(), "table1").set_index("row")
    teacher = table.loc["Teacher"]
    assert list(teacher[["net1", "net2", "average", "ensemble"]]) == [75, 75, 75, 100]
    assert list(teacher[["net1_published", "average_published", "ensemble_published"]]) == [91.61, 91.75, 93.48]
    assert list(table["iterations"]) == [2 * 20, 10 + 8, 10 + 2 * 8]
    assert list(table["iterations_published"]) == [192_000, 98_000, 84_000]


def test_table_files_hold_the_same_numbers(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.rows.Teacher‡", "teacher")
    plan = project.plan()
    csv = project.folder / "table1.csv"
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", csv)
    assert pd.read_csv(csv)["average"].tolist() == [75, 75, 75, 75]
    markdown = csv.with_suffix(".md").read_text()
    assert "| Teacher " in markdown
    assert "75.00 (91.75)" in markdown
    latex = csv.with_suffix(".tex").read_text()
    assert r"75.00 (91.75)" in latex
    assert r"Student$^*$" in latex
    assert r"Teacher$^\ddagger$ &" in latex


def test_a_row_of_ones_own_has_no_published_numbers(project: Project) -> None:
    pretend(project)
    project.set("tables.table1.rows", {"Mine": "student", "Teacher*": "teacher", "FitNet, 1 loss*": "fitnet"})
    plan, csv = project.plan(), project.folder / "table1.csv"
    tables.write_table(tables.make_table(plan, "table1"), plan, "table1", csv)
    table = pd.read_csv(csv).set_index("row")
    assert np.isnan(table.loc["Mine", "average_published"])
    assert table.loc["Teacher*", "average_published"] == 90.64
    assert "75.00 (–)" in csv.with_suffix(".md").read_text()
    assert "– (91.85)" in csv.with_suffix(".md").read_text()  # one net of ours, three published


def test_nets_tested_on_different_images_are_not_averaged(project: Project) -> None:
    pretend(project)
    run = project.plan().net("student/2")
    evaluate.save_predictions(run.folder / "predictions.npz", torch.eye(3)[LABELS], LABELS.flip(0))
    with pytest.raises(UserError, match=r"student-1-\w+ and the other nets .* were tested on different images"):
        tables.make_table(project.plan(), "table1")


def test_nets_of_different_code_are_told(project: Project) -> None:
    pretend(project)
    assert tables.different_code(project.plan(), "table1") is None
    run = project.plan().net("student/2")
    manifest = {"iterations": 8, "attempts": [{"code_sha256": {"engine": "1", "method": "0"}}]}
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    assert f"engine 1: {run.id}" in tables.different_code(project.plan(), "table1")


def test_damaged_predictions_and_manifest_are_named(project: Project) -> None:
    pretend(project)
    run = project.plan().net("student/1")
    content = (run.folder / "predictions.npz").read_bytes()
    (run.folder / "predictions.npz").write_bytes(content[:100])
    with pytest.raises(UserError, match=r"student-1-\w+/predictions.npz: these predictions cannot be read"):
        tables.make_table(project.plan(), "table1")
    (run.folder / "predictions.npz").write_bytes(content)
    (run.folder / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"student-1-\w+/manifest.json: cannot be read"):
        tables.make_table(project.plan(), "table1")


def test_figure_shows_each_curve_and_is_the_same_again(project: Project) -> None:
    pretend(project)
    drawing = figures.draw_figure(project.plan(), "figure3")
    loss, accuracy = drawing.axes
    assert [line.get_label() for line in accuracy.lines] == ["Teacher", "Student"]
    assert [len(line.get_xdata()) for line in loss.lines] == [20, 8]
    figures.write_figure(project.plan(), "figure3", project.folder / "a.png")
    figures.write_figure(project.plan(), "figure3", project.folder / "b.png")
    assert (project.folder / "a.svg").read_bytes() == (project.folder / "b.svg").read_bytes()
    assert (project.folder / "a.png").read_bytes() == (project.folder / "b.png").read_bytes()


def test_loss_curve_is_a_running_mean(project: Project) -> None:
    frame = pd.DataFrame({"iteration": range(1, 401), "loss": np.arange(400.0), "test_accuracy": np.nan})
    frame.to_csv("metrics.csv", index=False)
    curve = figures.read_curve(project.folder / "metrics.csv")
    assert curve["smoothed_loss"].iloc[10] == np.mean([7, 8, 9, 10])
