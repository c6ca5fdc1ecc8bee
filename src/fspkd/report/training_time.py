"""The time comparison of the FSP paper, section 4.1, measured on this machine."""

import time
from collections.abc import Iterable
from typing import cast, get_args

import numpy as np
import pandas as pd
import torch

from fspkd.config.load import CONFIG
from fspkd.config.results import SpeedUp, TrainingTime
from fspkd.data.packed import load_data
from fspkd.engine.batches import Images
from fspkd.engine.device import new_stream
from fspkd.engine.step import Step, steps_of
from fspkd.plan import Plan
from fspkd.report.stats import geometric_mean
from fspkd.report.timings import MACHINE, measured_on
from fspkd.runs.spec import Run
from fspkd.times import duration
from fspkd.train.machine import description
from fspkd.train.session import new_member

WARM_UP, LEAST, SECONDS = 2, 15, 10.0  # warm-up blocks; least blocks measured; least seconds with warm-up
ROUNDS = 5
PER_100 = "s per 100 iterations"


def measure(plan: Plan, name: str, device: torch.device) -> pd.DataFrame:
    """Measure seconds per 100 iterations, hours and speed-ups, beside the published values of the same names.

    Columns: what; value, the geometric mean over rounds; low and high, its 95 % interval, for speed-ups; rounds, their
    number; published; unit; the value in each round: round1, round2, ...; device, processor, threads. Test
    passes, checkpoints and start-up are not timed. "Saved" is a stage 1 that gets the teacher's matrices at no cost;
    "shared" one where they are computed once for all nets of a row.
    """
    settings = cast(TrainingTime, plan.preset.timings[name])
    teachers, students, shuffled = (plan.rows[row] for row in settings.nets)
    images = Images(load_data(teachers[0].data), teachers[0].spec.augment, device)
    stage1 = cast(Run, students[0].stage1)
    all_stage1 = list(dict.fromkeys(cast(Run, run.stage1) for run in shuffled))
    steps = [
        _new_step([teachers[0]], images),
        _new_step([stage1], images),
        _with_saved_targets(_new_step([stage1], images)),
        _new_step(all_stage1, images),
    ]
    what, rounds, units = zip(*_comparison(teachers, students, shuffled, _seconds_per_100(steps)), strict=True)
    estimates, is_speed_up = pd.DataFrame([geometric_mean(of_line) for of_line in rounds]), pd.Series(units) == "times"
    published = pd.read_csv(CONFIG / settings.reference).set_index("what")["value"]
    frame = pd.DataFrame(
        {
            "what": what,
            "value": estimates["value"],
            "low": estimates["low"].where(is_speed_up),
            "high": estimates["high"].where(is_speed_up),
            "rounds": estimates["n"],
            "published": pd.Series(what).map(published),
            "unit": units,
        }
    )
    frame[[f"round{number}" for number in range(1, ROUNDS + 1)]] = rounds
    described = description(device)
    return frame.assign(**{column: described[column] for column in MACHINE})


def shown_timing(frame: pd.DataFrame) -> pd.DataFrame:
    """A time comparison formatted for readers: a text per cell, each time in a fitting unit."""
    per_100 = frame["unit"] == PER_100
    shown = pd.DataFrame({"": frame["what"].mask(per_100, frame["what"] + ": 100 iterations")})
    for heading, column in (("measured", "value"), ("published", "published")):
        pairs = zip(frame[column], frame["unit"], strict=True)
        shown[heading] = [_with_unit(value, unit) if value == value else "–" for value, unit in pairs]
    intervals = zip(frame["low"], frame["high"], strict=True)
    shown.insert(2, "95 % interval", [f"{low:.2f} to {high:.2f}" if low == low else "" for low, high in intervals])
    return shown


def _with_unit(value: float, unit: str) -> str:
    match unit:
        case "hours":
            return duration(3600 * value)
        case "times":
            return f"{value:.3g} times"
    return f"{value:.3g} s"


def how(frame: pd.DataFrame) -> str:
    """A text on what was timed, and on which machine."""
    return f"Measured on {measured_on(frame)}, without test passes and start-up; intervals are over {ROUNDS} rounds."


def _comparison(
    teachers: list[Run], students: list[Run], shuffled: list[Run], seconds: Iterable[np.ndarray]
) -> list[tuple[str, np.ndarray, str]]:
    """The lines of the comparison, as (what, value, unit), from the four steps' seconds per 100 iterations.

    Values and seconds are arrays over rounds: (ROUNDS,).
    """
    normal, on_the_fly, saved, shared = seconds
    nets_together = len(dict.fromkeys(run.stage1 for run in shuffled))

    def hours(nets: list[Run], per_100: np.ndarray | float) -> np.ndarray:
        first = sum(run.spec.iterations for run in dict.fromkeys(run.stage1 for run in nets) if run)
        return (first * per_100 + sum(run.spec.iterations for run in nets) * normal) / 100 / 3600

    plain = hours(teachers, 0)
    speed_ups = [
        plain / hours(students, on_the_fly),
        plain / hours(students, saved),
        plain / hours(shuffled, saved),
        plain / hours(shuffled, shared),
    ]
    return [
        ("normal training", normal, PER_100),
        ("stage 1, teacher FSP computed on the fly", on_the_fly, PER_100),
        ("stage 1, teacher FSP saved beforehand", saved, PER_100),
        (f"stage 1, teacher FSP shared by {nets_together} nets, a net", shared, PER_100),
        ("Teacher, normal training", plain, "hours"),
        ("Student*, stage 1 once on the fly and stage 2 each", hours(students, on_the_fly), "hours"),
        *((what, value, "times") for what, value in zip(get_args(SpeedUp), speed_ups, strict=True)),
    ]


def _new_step(runs: list[Run], images: Images) -> Step:
    """A step that trains runs from their starts, and leaves their folders alone."""
    (step,) = steps_of([new_member(run, images, new_stream(images.device)) for run in runs])
    step.table = None  # saving the teacher's outputs is one of the things compared
    return step


def _with_saved_targets(step: Step) -> Step:
    (member,) = step.members
    batch = step.batches.make(step.drawn[:1].to(step.device))[0][0]
    given = member.targets(step.to_input(batch))
    member.targets = lambda _: given  # type: ignore[method-assign, assignment]
    return step


def _seconds_per_100(steps: list[Step]) -> np.ndarray:
    """The seconds per 100 iterations of one member, for each step and round: (steps, ROUNDS).

    Steps take turns, and a step's fastest block of a round counts: whatever else the machine does can only make a block
    slower.
    """
    times: list[list[float]] = [[] for _ in steps]
    begin = time.perf_counter()
    while len(times[0]) < WARM_UP + LEAST or time.perf_counter() - begin < SECONDS:
        for step, taken in zip(steps, times, strict=True):
            start = time.perf_counter()
            for _ in range(step.load()):
                step.iterate()
            step.prepare()
            step.fetch()
            taken.append((time.perf_counter() - start) / step.loaded / len(step.members))
    rounds = np.array_split(np.array(times)[:, WARM_UP:], ROUNDS, axis=1)
    return 100 * np.stack([blocks.min(1) for blocks in rounds], axis=1)
