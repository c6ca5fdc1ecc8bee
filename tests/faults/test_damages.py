"""Random damage to every file of a run folder and to packed data: each case is named, or changes nothing that is read.

`make faults` does thousands and prints the matrix; without DAMAGES in the environment it is a small, fixed number.
"""

import contextlib
import io
import os
import random
from collections import Counter
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from conftest import Project, images_of

from fspkd.data.packed import load_data
from fspkd.engine.batches import Images
from fspkd.errors import UserError
from fspkd.report import curves
from fspkd.report.tables import make_table, table_csv
from fspkd.runs.journal import final_measurements, read_journal, trusted_journal
from fspkd.runs.spec import check_finished
from fspkd.train import loop, session
from fspkd.train.nets import finished_net
from fspkd.train.session import Session
from fspkd.weights import weights_sha256

pytestmark = pytest.mark.usefixtures("not_followed")

Damage = Callable[[bytes, random.Random, list[bytes]], bytes | None]


def flip(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    return content[: draw.randrange(len(content))]


def zeros(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """A block that was never written, as after a crash."""
    begin = draw.randrange(len(content))
    end = min(len(content), begin + draw.choice([1, 16, 512, 4096]))
    return content[:begin] + bytes(end - begin) + content[end:]


def twice(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    begin = draw.randrange(len(content))
    return content + content[begin:]


def swapped(content: bytes, draw: random.Random, others: list[bytes]) -> bytes:
    """Another run's file of that name or, if there is none, another file."""
    return draw.choice(others)


def gone(content: bytes, draw: random.Random, others: list[bytes]) -> None:
    return None


DAMAGES: list[Damage] = [flip, flip, flip, cut, zeros, twice, swapped, gone]


@pytest.fixture
def made(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Finished nets, and teacher/2, which was killed before its end."""
    project.train("student/1", "student/2", "fitnet/1")
    second = project.plan().net("teacher/2")

    def die(session: Session) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            loop.train([second], torch.device("cpu"), 0)
    return project


def readers(project: Project, images: Images) -> dict[str, Callable[[], object]]:
    """All that is made from the files of runs and data, by name."""
    plan = project.plan()
    net, killed = plan.net("student/1"), plan.net("teacher/2")

    def table() -> bytes:
        check_finished(plan.row_runs("student"))
        return table_csv(make_table(plan, "table1", ["Student*"]))

    def points() -> pd.DataFrame:
        journal, _ = trusted_journal(net.folder)
        return final_measurements(net.folder, journal).drop(columns="time") if journal else pd.DataFrame()

    def points_of_the_killed() -> pd.DataFrame:
        journal = read_journal(killed.folder)
        return final_measurements(killed.folder, journal) if journal else pd.DataFrame()

    def resumed() -> tuple[int, str]:
        began = Session(killed, images, None)
        rows = killed.folder.growing_metrics.read_bytes().count(b"\n") - 1
        assert rows == began.member.done
        return began.member.done, weights_sha256(began.member.net.state_dict())

    def curve() -> pd.DataFrame:
        check_finished(plan.nets("student"))
        return pd.concat(frame for _, frame in curves.read_curves(plan, "figure3")["Student"])

    return {
        "table": table,
        "curve": curve,
        "complete": lambda: session.is_complete(net),
        "net": lambda: weights_sha256(finished_net(net, images.shape, images.classes).state_dict()),
        "teacher": lambda: weights_sha256(finished_net(net.stage1.teacher, images.shape, images.classes).state_dict()),
        "images": lambda: load_data(net.data).stored_sha256,
        "points": points,
        "points of the killed": points_of_the_killed,
        "resumed": resumed,
    }


def outcome(read: Callable[[], object], allowed: list[object]) -> str:
    try:
        found = read()
    except UserError:
        return "named"
    except Exception as error:  # what this test looks for
        return f"TRACEBACK {type(error).__name__}"
    text = found.to_csv() if isinstance(found, pd.DataFrame) else found
    return "same" if text == allowed[0] else "made anew" if text in allowed else "WRONG"


def test_damages_are_named_or_change_nothing(made: Project) -> None:
    count = int(os.environ.get("DAMAGES", "200"))
    plan, draw = made.plan(), random.Random(count)
    killed = plan.net("teacher/2")
    images = images_of(killed)
    by_name = readers(made, images)
    data = plan.net("student/1").data.path
    folders = [run.folder.path for run in plan.runs.values() if run.folder.path.exists()]
    whole = {file: file.read_bytes() for folder in folders for file in folder.iterdir()} | {data: data.read_bytes()}
    damaged = [file for file in whole if whole[file] and file.name not in ("lock", "usage.csv", "run.yaml")]

    def restore() -> None:
        for folder in folders:
            for file in folder.iterdir():
                if file not in whole:
                    file.unlink()
        for file, content in whole.items():
            if not file.exists() or file.read_bytes() != content:
                file.write_bytes(content)

    # What a reader may give: the result for whole files, or a training resumed from an earlier checkpoint.
    allowed = {name: [read()] for name, read in by_name.items()}
    restore()
    for missing in (["checkpoint.pt"], ["checkpoint.pt", "checkpoint.previous.pt"]):
        for name in missing:
            (killed.folder.path / name).unlink()
        allowed["resumed"].append(by_name["resumed"]())
        restore()
    assert [done for done, _ in allowed["resumed"]] == [20, 19, 0]
    allowed["complete"].append(False)
    finals = allowed["points of the killed"][0]
    # Fewer points: those that a damaged journal still vouches for.
    allowed["points of the killed"] += [finals[:length] for length in range(len(finals))]
    allowed = {n: [t.to_csv() if isinstance(t, pd.DataFrame) else t for t in texts] for n, texts in allowed.items()}
    allowed["points of the killed"] += [pd.DataFrame(columns=c).to_csv() for c in ([], ["iteration", "time"])]

    matrix: Counter[tuple[str, str, str, str]] = Counter()
    for _ in range(count):
        file, damage = draw.choice(damaged), draw.choice(DAMAGES)
        others = [whole[o] for o in damaged if o != file and o.name == file.name] or [whole[draw.choice(damaged)]]
        content = damage(whole[file], draw, others)
        file.unlink() if content is None else file.write_bytes(content)
        of_killed = file.parent == killed.folder.path
        for name, read in by_name.items():
            if of_killed == (name in ("resumed", "points of the killed")) or file == data:
                with contextlib.redirect_stdout(io.StringIO()):  # it reports each time what is damaged
                    found = outcome(read, allowed[name])
                matrix[file.name if file != data else "packed data", damage.__name__, name, found] += 1
        restore()
    lines = pd.Series(matrix).rename_axis(["file", "damage", "read", "outcome"]).reset_index(name="times")
    print(lines.pivot_table(index=["file", "damage"], columns="outcome", values="times", aggfunc="sum", fill_value=0))
    bad = lines[lines["outcome"].str.contains("WRONG|TRACEBACK")]
    assert bad.empty, bad.to_string()
