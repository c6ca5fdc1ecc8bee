"""What a workflow prints on a terminal, and in a log file."""

import io
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Project
from snakemake_interface_logger_plugins.common import LogEvent

from fspkd.files import Prefix
from fspkd.runs.folder import RunFolder
from fspkd.terminal import LogHandler, Training
from fspkd.train.metrics import MetricsFile

pytestmark = pytest.mark.usefixtures("not_followed")

TABLE = "results/tiny/table1.csv"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.fixture(autouse=True)
def stoppable() -> Iterator[None]:
    """Make Ctrl-C stop commands, even if the tests run in the background of a script, where it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def on_a_terminal(*command: str, stop_at: str | None = None) -> tuple[int, str]:
    """Run a command on a terminal, and press Ctrl-C when `stop_at` is seen; returns its exit status and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        os.environ.update(COLUMNS="120", TERM="xterm")
        os.execvp(command[0], command)
    seen = ""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the command has ended
            break
        seen += ESCAPES.sub("", part.decode(errors="replace"))
        if stop_at and re.search(stop_at, seen):
            os.write(terminal, b"\x03")
            stop_at = None
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.replace("\r", "\n")


def test_a_view_of_what_is_in_training_and_what_was_made(workflow: Project) -> None:
    status, seen = on_a_terminal("snakemake", "--cores", "2", TABLE)
    assert status == 0, seen
    assert re.search(r"teacher-1-\w+ .*\d+/20", seen)
    assert re.search(r"\d of 8 steps, \d+ of 84 iterations", seen)  # seven runs and the table
    trained = re.findall(r"trained results/runs/(\S+)-\w+: (\d+) iterations, test [\d.]+ %", seen)
    assert {("students/student-1", "8"), ("teachers/teacher-2", "20")} <= set(trained)
    assert "| Student* " in seen
    assert "8 of 8 steps done" in seen
    for wall in ("Reason", "scripts/train.py", "Finished jobid"):
        assert wall not in seen
    for run in workflow.plan().runs.values():
        assert (
            f"{run.spec.iterations}/{run.spec.iterations} iterations" in Path(f"results/logs/{run.id}.log").read_text()
        )


def test_the_view_has_what_a_run_measured_last(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    metrics = MetricsFile(folder.growing_metrics, Prefix(), validation=True)
    metrics.append([(1, 0.1, 2.5, 1.0, 3.0, 40.0, 2.0, 50.0), (2, 0.1, 2.25, 1.0)])
    with folder.growing_metrics.open("a") as file:
        file.write("3,0.1,2.")  # a line that is not whole yet
    training = Training(tmp_path, 20)
    training.look()
    assert (training.done, training.loss, training.accuracy) == (2, "2.25", "40")
    metrics = MetricsFile(folder.growing_metrics, Prefix(), validation=True)  # it has no checkpoint, and starts over
    metrics.append([(1, 0.1, 2.5, 1.0)])
    training.look()
    assert (training.done, training.speed) == (1, 0)


@pytest.mark.parametrize("place", ["terminal", "log file"])
def test_ctrl_c_is_no_error_and_nothing_is_lost(workflow: Project, place: str) -> None:
    workflow.set("schedules.long", [{"until": 200_000, "rate": 0.01}])
    command = ("snakemake", "--cores", "1", TABLE)
    run = workflow.plan().net("teacher/1").folder
    if place == "terminal":
        status, seen = on_a_terminal(*command, stop_at=r"[1-9]\d*/200,000")
    else:
        process = workflow.start(
            *command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        while not any(run.path.parent.glob("*/metrics.partial.csv")):
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        seen = process.communicate()[0]
        status = process.returncode
    assert status != 0
    assert seen.count("Stopped. Nothing is lost") == 1
    for fright in ("Error in rule", "Failed", "Traceback", "job execution failed"):
        assert fright not in seen
    assert any(run.path.parent.glob("*/checkpoint.pt"))


def test_a_job_that_fails_is_told_by_what_it_was_to_do_and_its_log(workflow: Project) -> None:
    workflow.set("schedules.long", [{"until": 20, "rate": 1e30}])
    status, seen = on_a_terminal("snakemake", "--cores", "2", TABLE)
    assert status != 0
    assert re.search(r"Failed: train results/runs/teachers/teacher-1-\w+: 20 iterations of cross_entropy", seen)
    assert "training has diverged" in " ".join(seen.split())
    assert "Traceback" not in seen


SETTINGS = SimpleNamespace(
    stdout=False, dryrun=False, nocolor=False, quiet=(), show_failed_logs=True, debug_dag=False, verbose=False,
    printshellcmds=False,
)  # fmt: skip


class Screen(io.StringIO):
    """A terminal that shows nothing but what a view writes."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[\??\d*[;\d]*[a-zA-Z]|[\r\n]|[^\x1b\r\n]+", self.getvalue()):
            if part == "\r":
                column = 0
            elif part == "\n":
                row, column = row + 1, 0
                lines += [""] * (row == len(lines))
            elif part == "\x1b[2K":
                lines[row] = ""
            elif part.startswith("\x1b"):
                row -= int(part[2:-1]) if part.endswith("A") else 0
            else:
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
                column += len(part)
        return lines


@pytest.fixture
def on_screen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[LogHandler, Screen]]:
    """A handler whose view is drawn on a screen."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", "LINES": "25"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("fspkd.terminal.is_live", False)  # the view changes it
    monkeypatch.setattr(sys, "stderr", screen := Screen())
    handler = LogHandler(SETTINGS, None)
    yield handler, screen
    handler.close()


def test_why_slurm_ended_or_refused_a_job_is_told(on_screen: tuple[LogHandler, Screen]) -> None:
    handler, screen = on_screen
    Path("slurm.log").write_text("Killed\n")
    info = {"jobid": 3, "rule_name": "train", "rule_msg": "train results/runs/teachers/net-1: 5 iterations", "log": []}
    of_executor = "For further error details see the cluster/cloud log and the log files of the involved rule(s)."
    reasons = ("SLURM status is: 'OUT_OF_MEMORY'. Reason: Unknown.", "sbatch failed: limit\n    sbatch call:\n --x\n")
    for reason, log in zip(reasons, ("slurm.log", "none.log"), strict=True):
        handler.handle(logging.makeLogRecord({"event": LogEvent.JOB_INFO, **info}))
        error = {
            **info,
            "rule_msg": reason + of_executor,
            "log": ["results/logs/net-1.log", log],
            "levelno": logging.ERROR,
        }
        handler.handle(logging.makeLogRecord({"event": LogEvent.JOB_ERROR, **error}))
    told = "\n".join(screen.lines())
    assert told.count("Failed: train results/runs/teachers/net-1: 5 iterations\n") == 2
    for part in (reasons[0], "Logfile slurm.log:", "Killed", "sbatch failed: limit", "net-1.log not found"):
        assert told.count(part) == 1, part
    assert "sbatch call" not in told
    assert "For further" not in told


def test_the_view_shows_what_the_queue_does_and_looks_rarely_at_many_nets(
    on_screen: tuple[LogHandler, Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, screen = on_screen
    looks = []
    look = Training.look
    monkeypatch.setattr(Training, "look", lambda training: looks.append(training.folder) or look(training))
    message = "\n".join(f"train results/runs/teachers/net-{net}: 5 iterations" for net in range(100))
    for fields in (
        {"event": LogEvent.PROGRESS, "done": 0, "total": 2},
        {"msg": f"SLURM: wait (Priority): {' '.join(map(str, range(100, 160)))}", "levelno": logging.INFO},
        *(
            {"event": LogEvent.JOB_INFO, "jobid": job, "rule_name": "draw", "rule_msg": f"draw {job}", "log": []}
            for job in range(100, 120)
        ),
        {"event": LogEvent.JOB_INFO, "jobid": 1, "rule_name": "train", "rule_msg": message, "log": []},
    ):
        handler.handle(logging.makeLogRecord(fields))
    time.sleep(1.2)  # it is drawn twice more
    lines = [line.rstrip() for line in screen.lines()]
    assert any("SLURM: wait (Priority): 100 101" in line for line in lines)
    assert any(" 158 159" in line for line in lines)
    assert any(re.search(r"^0 of 2 steps", line) for line in lines)
    assert [line for line in lines if re.search(r"^and \d+ more", line)][-2:] == ["and 15 more", "and 89 more"]
    assert len(looks) == len(set(looks)) == 100


def test_what_is_told_and_what_is_drawn_meanwhile_do_not_mix(
    on_screen: tuple[LogHandler, Screen], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs begin and end while the view is drawn a thousand times a second: it is gone at the end, and all is printed."""
    handler, screen = on_screen
    monkeypatch.setattr("fspkd.terminal.SECONDS_BETWEEN_DRAWINGS", 0.001)

    def record(event: LogEvent, **fields: object) -> None:
        handler.handle(logging.makeLogRecord({"event": event, **fields}))

    try:
        for job in range(200):
            message = f"train results/runs/teachers/net-{job}: 5 iterations"
            record(LogEvent.JOB_INFO, jobid=job, rule_name="train", rule_msg=message, log=[])
            if job % 3 == 2:
                for ended in range(job - 2, job + 1):
                    time.sleep(0.002)
                    record(LogEvent.JOB_FINISHED, job_id=ended)
    finally:
        handler.close()
    told = [line.strip() for line in screen.lines() if line.strip()]
    assert told[:-1] == [f"trained results/runs/teachers/net-{job}: 0 iterations" for job in range(198)]
    assert told[-1].endswith("steps done")


def test_where_ctrl_c_is_ignored_it_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    LogHandler(SETTINGS, None).close()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
