"""How long nets guess: the loss of guessing, when nets leave it, the drawing, from known losses."""

from math import log

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project
from finished import finish, measure

from fspkd.errors import UserError
from fspkd.report import figures, plateau
from fspkd.report.summary import summary
from fspkd.runs.spec import Run
from fspkd.workflow.results import ResultRule

LENGTH = 400
LN3 = log(3)  # the images of these tests have three classes


def lose(net: Run, losses: np.ndarray) -> None:
    """Give a net these losses, one per iteration."""
    finish(net)
    frame = pd.DataFrame({"iteration": np.arange(1, len(losses) + 1), "loss": losses})
    measure(net, frame.assign(test_accuracy=np.nan))


@pytest.fixture
def guessing(project: Project) -> Project:
    """A figure of two nets that learn from labels, and of one that learns from a teacher; none is trained."""
    alone = {"data": "images", "network": "net", "nets": 2, "stage2": {"method": "cross_entropy", "schedule": "some"}}
    project.content["schedules"]["some"] = [{"until": LENGTH, "rate": 0.1}]
    project.content["rows"]["alone"] = alone
    taught = {"method": "kd", "teacher": "teacher/1", "schedule": "some"}
    project.content["rows"]["taught"] = {**alone, "nets": 1, "stage2": taught}
    figure = {"kind": "plateau", "title": "Plateaus", "curves": {"by labels": "alone", "taught": "taught"}}
    project.content |= {"tables": {}, "timings": {}, "claims": None, "figures": {"plateau": figure}}
    project.write()
    return project


def test_loss_of_guessing_is_that_of_equal_probabilities(guessing: Project) -> None:
    """ln K for labels; with a teacher, whatever it predicts, (1 + lambda) ln K; lambda falls linearly from 4 to 1."""
    alone, taught = guessing.plan().net("alone/1"), guessing.plan().net("taught/1")
    assert plateau.guessing_loss(alone, 3).to_numpy() == pytest.approx(np.full(LENGTH, LN3), rel=1e-6)
    weights = np.linspace(4, 1, LENGTH)
    assert plateau.guessing_loss(taught, 3).to_numpy() == pytest.approx((1 + weights) * LN3, rel=1e-6)


@pytest.mark.parametrize("method", [{}, {"weight_start": 0.3, "weight_end": 7.1}, {"soften_student": False}])
def test_loss_of_guessing_has_the_bits_of_one_iteration_after_the_other(guessing: Project, method: dict) -> None:
    """As the stage computes it: weights that change over three phases, and ten classes."""
    phases = [{"until": 100, "rate": 0.1}, {"until": 250, "rate": 0.01, "to": 0.001}, {"until": LENGTH, "rate": 0.001}]
    guessing.content["schedules"]["some"] = phases
    guessing.content["rows"]["taught"]["stage2"] |= method
    guessing.write()
    logits, label = torch.zeros(1, 10), torch.zeros(1, dtype=torch.long)
    for net in (guessing.plan().net("alone/1"), guessing.plan().net("taught/1")):
        losses = [
            net.spec.method.loss({"logits": logits}, {}, logits, label, torch.tensor(done / (LENGTH - 1))).item()
            for done in range(LENGTH)
        ]
        found = plateau.guessing_loss(net, 10)
        assert found.tolist() == losses
        assert found.index.tolist() == list(range(1, LENGTH + 1))


def test_plateau_is_left_when_the_mean_loss_is_below_it(guessing: Project) -> None:
    """Fifty iterations are averaged; three after the loss falls by a fifth, at iteration 200, lower the mean by 1.2 %."""
    plan = guessing.plan()
    first, second, taught = plan.net("alone/1"), plan.net("alone/2"), plan.net("taught/1")
    lose(first, np.where(np.arange(1, LENGTH + 1) <= 200, LN3, 0.8 * LN3))
    lose(second, np.full(LENGTH, 0.995 * LN3))
    # More than five sixths of 50 iterations must have the lower loss.
    fallen = np.where(np.arange(1, LENGTH + 1) <= 300, 1, 0.4)
    lose(taught, fallen * (1 + np.linspace(4, 1, LENGTH)) * LN3)  # lambda lowers these too, as for a net that guesses
    png = figures.write(plan, "plateau")
    frame = pd.read_csv(png.with_suffix(".csv"))
    assert frame["curve"].tolist() == ["by labels", "by labels", "taught"]
    assert frame["net"].tolist() == [first.id, second.id, taught.id]
    assert frame["left_at"].tolist() == pytest.approx([203, np.nan, 301], nan_ok=True)
    assert frame["half_at"].tolist() == pytest.approx([np.nan, np.nan, 342], nan_ok=True)
    assert frame["last"].tolist() == pytest.approx([0.8, 0.995, 0.4], rel=1e-3)
    assert frame["iterations"].tolist() == [LENGTH] * 3
    first = {file: file.read_bytes() for file in png.parent.glob("plateau.*")}
    figures.write(plan, "plateau")
    assert {file: file.read_bytes() for file in png.parent.glob("plateau.*")} == first
    assert len(first) == 3


def test_one_lucky_batch_is_not_learning(guessing: Project) -> None:
    net = guessing.plan().net("alone/1")
    lose(net, np.where(np.arange(1, LENGTH + 1) == 3, 0.6 * LN3, LN3))
    relative = plateau.read(guessing.plan(), "plateau")["by labels"][net.id]
    assert np.isnan(plateau.first_below(plateau.LEFT, relative))


def test_nets_that_are_not_finished_are_not_drawn(guessing: Project) -> None:
    lose(guessing.plan().net("alone/1"), np.full(LENGTH, LN3 / 2))
    curves = plateau.read(guessing.plan(), "plateau")
    assert list(curves) == ["by labels"]
    drawing = plateau.draw("A title", curves)
    assert [text.get_text() for text in drawing.legends[0].get_texts()] == ["by labels: at most 50"]
    assert not [line for line in drawing.axes[0].lines if len(line.get_xdata()) == 1]  # no dot where nobody knows when


def test_page_and_inputs_of_the_figure(guessing: Project) -> None:
    plan = guessing.plan()
    for net in plan.nets("alone"):
        lose(net, np.full(LENGTH, LN3 / 2))
    lose(plan.net("taught/1"), np.full(LENGTH, 5 * LN3))
    inputs = ResultRule(plan, "figure", "plateau").inputs()
    assert inputs["metrics"] == [str(net.folder.metrics) for net in (*plan.nets("alone"), plan.net("taught/1"))]
    figures.write(plan, "plateau")
    page = summary(plan).decode()
    for text in ("Plateaus", "left after", "never", "has left the plateau when"):
        assert text in page


def test_row_without_a_loss_of_guessing_is_refused(guessing: Project) -> None:
    guessing.content["rows"]["alone"]["stage2"] = {
        "method": "relational_kd",
        "teacher": "teacher/1",
        "schedule": "some",
    }
    guessing.write()
    with pytest.raises(
        UserError, match=r"figures.plateau.curves.by labels = 'alone': that row ends with relational_kd"
    ):
        guessing.plan()
