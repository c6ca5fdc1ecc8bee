"""The time comparison of trainings, from times that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Project, images_of
from scipy import stats

from fspkd.engine.step import Step, steps_of
from fspkd.errors import UserError
from fspkd.report import timings, training_time
from fspkd.report.claims import judge
from fspkd.report.training_time import WARM_UP, _comparison, _new_step, _seconds_per_100, _with_saved_targets
from fspkd.train.session import new_member

pytestmark = pytest.mark.usefixtures("not_followed")


def test_hours_and_speed_ups_follow_from_the_four_times(project: Project) -> None:
    """Two nets of 8 iterations each, after a stage 1 of 10 iterations for both or for each; two teachers of 20."""
    shuffled = {**project.content["rows"]["student"], "stage1_shared": False}
    project.set("rows.shuffled", shuffled)
    teachers, students, shuffled = (project.plan().rows[row] for row in ("teacher", "student", "shuffled"))
    plain, last = 40 * 4, 16 * 4
    assert _comparison(teachers, students, shuffled, [4, 3, 2, 0.5]) == [
        ("normal training", 4, "s per 100 iterations"),
        ("stage 1, teacher FSP computed on the fly", 3, "s per 100 iterations"),
        ("stage 1, teacher FSP saved beforehand", 2, "s per 100 iterations"),
        ("stage 1, teacher FSP shared by 2 nets, a net", 0.5, "s per 100 iterations"),
        ("Teacher, normal training", pytest.approx(plain / 100 / 3600), "hours"),
        (
            "Student*, stage 1 once on the fly and stage 2 each",
            pytest.approx((10 * 3 + last) / 100 / 3600),
            "hours",
        ),
        (
            "speed-up of Student* over Teacher, on the fly",
            pytest.approx(plain / (10 * 3 + last)),
            "times",
        ),
        ("speed-up of Student* with saved FSP", pytest.approx(plain / (10 * 2 + last)), "times"),
        ("speed-up of Student*† with saved FSP", pytest.approx(plain / (20 * 2 + last)), "times"),
        ("speed-up of Student*† with shared FSP", pytest.approx(plain / (20 * 0.5 + last)), "times"),
    ]


class Timed:
    """The timed part of a step; its iterations take known seconds, on a clock that stands still between them."""

    def __init__(self, clock: list[float], members: int, iterations: int, seconds: list[float]) -> None:
        self.clock, self.members, self.loaded = clock, range(members), iterations
        self.seconds = [first for first in seconds for _ in range(iterations)]

    def load(self) -> int:
        return self.loaded

    def iterate(self) -> None:
        self.clock[0] += self.seconds.pop(0) if self.seconds else 9.0

    def prepare(self) -> None: ...

    def fetch(self) -> None: ...


def test_seconds_are_those_of_one_member_in_the_fastest_block_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(training_time.time, "perf_counter", lambda: clock[0])
    rounds = [[3, 1, 2], [2, 2, 4], [5, 4, 3], [1, 1, 1], [6, 7, 8]]
    blocks = [0.25] * WARM_UP + [seconds for of_round in rounds for seconds in of_round]
    found = _seconds_per_100([Timed(clock, 1, 2, blocks), Timed(clock, 2, 3, blocks)])
    assert found == pytest.approx(np.array([[100, 200, 300, 100, 600], [50, 100, 150, 50, 300]]))


def test_a_steady_machine_makes_sure_of_a_speed_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds differ only from the fourth digit on, and the file keeps enough digits."""
    project.set("rows.shuffled", {**project.content["rows"]["student"], "stage1_shared": False})
    project.set("timings.timing.shuffled_students", "shuffled")
    project.train("teacher/1")
    normal = np.array([4.0, 4.1, 4.0, 3.9, 4.2])
    on_the_fly = normal * [0.641, 0.6405, 0.6415, 0.641, 0.6412]

    def known_times(steps: list[Step]) -> np.ndarray:
        """One net each but in the last, which trains a stage 1 for each of two; only the third has saved targets."""
        assert [len(step.members) for step in steps] == [1, 1, 1, 2]
        x = torch.rand(2, 2, 1, 8, 8)
        targets = [[step.members[0].targets(images) for images in x] for step in steps[1:]]
        assert [torch.equal(one[0], other[0]) for one, other in targets] == [False, True, False]
        return np.stack([normal, on_the_fly, normal, normal])

    monkeypatch.setattr(training_time, "_seconds_per_100", known_times)
    plan = project.plan()
    csv = timings.write(plan, "timing", training_time.measure(plan, "timing", torch.device("cpu")))
    rounds = 40 * normal / (10 * on_the_fly + 16 * normal)
    test = stats.ttest_1samp(np.log(rounds), np.log(0.95 * 1.78))
    line = pd.read_csv(csv).set_index("what").loc["speed-up of Student* over Teacher, on the fly"]
    interval = np.exp(tuple(test.confidence_interval()))
    assert line[["value", "low", "high"]].tolist() == pytest.approx([stats.gmean(rounds), *interval], rel=1e-5)
    assert line[["rounds", "published", "unit"]].tolist() == [5, 1.78, "times"]
    assert line.filter(like="round").tolist()[1:] == pytest.approx(rounds, rel=1e-5)
    hours = pd.read_csv(csv).set_index("what").loc["Teacher, normal training"]
    assert hours["value"] == pytest.approx(40 * stats.gmean(normal) / 100 / 3600, rel=1e-5)
    assert np.isnan(hours["low"])
    claim = judge(plan).iloc[3]
    assert (claim["ours"], claim["n"], claim["verdict"]) == (pytest.approx(line["value"], rel=1e-5), 5, "reproduced")
    assert claim["p"] == pytest.approx(test.pvalue, rel=0.01)


def test_a_comparison_without_its_rounds_is_refused(project: Project) -> None:
    Path("results/tiny").mkdir(parents=True)
    Path("results/tiny/timing.csv").write_text("what,value,low,high,rounds\nspeed-up,2,1.9,2.1,5\n")
    with pytest.raises(
        UserError, match=r"results/tiny/timing.csv: lacks the rounds, .* Delete it, so that it is measured"
    ):
        judge(project.plan())


def test_saved_targets_are_the_teachers_and_are_not_computed_again(project: Project) -> None:
    """Nor does any step look them up in a table, which a stage 1 of so many iterations without crops would have."""
    project.set("data.images.augment", {"pad": 0, "flip": False})
    project.set("schedules.first", [{"until": 60, "rate": 1e-3}])
    project.train("teacher/1")
    run = project.plan().net("student/1").stage1
    images = images_of(run)
    (plain,) = steps_of([new_member(run, images, None)])
    assert plain.table
    step = _new_step([run], images)
    assert step.table is None
    (member,) = step.members

    def given(iteration: int) -> list[torch.Tensor]:
        batch = step.batches.make(step.batches.draw(iteration, 1))[0][0]
        return member.targets(step.to_input(batch))

    first, second = given(0), given(1)
    assert not torch.equal(first[0], second[0])
    assert _with_saved_targets(step) is step
    for iteration in (0, 1):
        torch.testing.assert_close(given(iteration), first, rtol=0, atol=0)
