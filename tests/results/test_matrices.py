"""Figures of FSP matrices, against matrices by plain loops."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project, images_of

from fspkd.report import figures, matrices
from fspkd.report.summary import summary
from fspkd.train.nets import finished_net, initial_net


@pytest.fixture
def drawn(project: Project) -> Project:
    """A figure of the tiny preset, whose stage 1 shuffles the teacher's channels."""
    project.set("rows.student.stage1.shuffle", "channel")
    project.set("figures", {"matrices": {"kind": "matrices", "title": "Matrices", "net": "student/1"}})
    project.set("claims", None)
    project.set("tables", {})
    project.set("timings", {})
    project.train("student/1")
    return project


def by_loops(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    """Of each image, G[i, j] = sum over s, t of F1[s, t, i] F2[s, t, j] / (h w); maps of one size."""
    count, channels, height, width = first.shape
    matrices = np.zeros((count, channels, second.shape[1]))
    for image in range(count):
        for i in range(channels):
            for j in range(second.shape[1]):
                matrices[image, i, j] = float((first[image, i] * second[image, j]).sum()) / (height * width)
    return matrices


def test_matrices_are_those_of_the_nets_and_the_teacher_is_shuffled(drawn: Project) -> None:
    plan = drawn.plan()
    first = plan.net("student/1").stage1
    found = matrices.matrices_of(first)
    assert list(found) == ["stem to section1", "section1 to section2", "section2 to section3"]
    images = images_of(first)
    every = (len(images.test) - 1) / (matrices.IMAGES - 1)
    chosen = [int(every * number) for number in range(matrices.IMAGES)] if every > 1 else range(len(images.test))
    x = images.to_input(images.test[list(chosen)])
    with torch.no_grad():
        teacher = finished_net(first.teacher, images.shape, images.classes).eval().taps(x, ("stem", "section1"))
        student = finished_net(first, images.shape, images.classes).train().taps(x, ("stem", "section1"))
        before = initial_net(first, images).train().taps(x, ("stem", "section1"))
    rows, columns = first.spec.method.permutations(first.spec.draws, first.spec.network)[0]
    of_teacher = by_loops(*teacher.values())[:, rows][:, :, columns]
    np.testing.assert_allclose(found["stem to section1"][matrices.TEACHER], of_teacher, rtol=1e-4)
    np.testing.assert_allclose(found["stem to section1"][matrices.AFTER], by_loops(*student.values()), rtol=1e-4)
    np.testing.assert_allclose(found["stem to section1"][matrices.BEFORE], by_loops(*before.values()), rtol=1e-4)


def test_the_figure_its_numbers_and_the_page_that_shows_it(drawn: Project) -> None:
    plan = drawn.plan()
    png = figures.write(plan, "matrices")
    assert png == Path("results/tiny/matrices.png")
    first = png.read_bytes(), png.with_suffix(".svg").read_bytes()
    figures.write(plan, "matrices")
    assert (png.read_bytes(), png.with_suffix(".svg").read_bytes()) == first
    frame = pd.read_csv(png.with_suffix(".csv"))
    assert png.with_suffix(".csv").read_bytes() == figures.numbers(plan, "matrices")
    assert len(frame) == 9
    assert (frame["distance"][frame["net"] == matrices.TEACHER] == 0).all()
    found = matrices.matrices_of(plan.net("student/1").stage1)["stem to section1"]
    student, teacher = found[matrices.AFTER], found[matrices.TEACHER]
    distance = ((student.mean(0) - teacher.mean(0)) ** 2).mean()
    assert frame["distance"][2] == pytest.approx(distance, rel=1e-3)
    spread = [(net - net.mean(0)).ravel() for net in (student, teacher)]
    assert frame["correlation"][2] == pytest.approx(np.corrcoef(*spread)[0, 1], rel=1e-3)
    assert (frame["correlation"][frame["net"] == matrices.TEACHER] == 1).all()
    page = summary(plan).decode()
    assert "the first stage minimises that of each image" in page
    assert "section2 to section3" in page
