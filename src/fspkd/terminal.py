"""How a workflow reports progress: in a terminal a view of what is in training, elsewhere lines. Imports no torch."""

import math
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter, get_event, show_logs, timestamp
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from fspkd.runs.folder import RunFolder
from fspkd.slurm.queue import QUEUE
from fspkd.times import duration
from fspkd.train.metrics import COLUMNS

TRAINING = re.compile(r"^train (\S+): (?:at most )?(\d+) iterations", re.MULTILINE)  # a training rule's message
NOISE = "--keep-incomplete mode"  # about outputs, which are written whole or not at all
SHOWN = ("table", "claims")  # the rules whose results are also printed
# What follows in an executor's reason for a failure: the command that it made, or that there are logs, which are shown.
NOT_A_REASON = re.compile(r"\n    sbatch call:|For further error details see")
MOST_OTHERS = 5  # jobs that train nothing, in the view
SECONDS_BETWEEN_DRAWINGS = 0.5
MOST_LOOKS = 4  # at measurements, per second: they may be on a file system that many nodes share
TAIL = 4096  # bytes of measurements that are read
STOPPED = "Stopped. Nothing is lost: run the same command again, and each net resumes from its last checkpoint."
is_live = False  # whether there is a view; what jobs print then goes only to their logs
expected = 0  # iterations of the workflow


def expect(messages: list[str]) -> None:
    """Note how many iterations jobs will take, by their messages."""
    global expected
    expected = sum(int(count) for message in messages for _, count in TRAINING.findall(message))


def quietly(wildcards: object, output: object) -> str:
    """The redirection that keeps what a job prints off the terminal if there is a view.

    A param of rules; since it depends on outputs, Snakemake makes nothing anew when it changes.
    """
    return "> /dev/null" if is_live else ""


@dataclass
class Training:
    """A run in training."""

    folder: Path
    total: int
    first: int | None = None
    done: int = 0
    loss: str = ""
    accuracy: str = ""
    began: float = field(default_factory=time.monotonic)
    looked: float = -math.inf

    def look(self) -> None:
        """Read the latest measurements."""
        self.looked = time.monotonic()
        try:
            with RunFolder(self.folder).growing_metrics.open("rb") as file:
                start = max(0, file.seek(0, 2) - TAIL)
                file.seek(start)
                lines = file.read().decode().splitlines()[1:]  # after the header, or half a line
        except OSError:
            return  # it has not begun yet
        for line in lines:
            values = dict(zip(COLUMNS, line.split(","), strict=False))  # the last line may not be whole yet
            if len(values) == len(COLUMNS) and values["iteration"].isdigit():
                self.done, self.loss = int(values["iteration"]), values["loss"]
                self.accuracy = values["test_accuracy"] or self.accuracy
        if self.first is None or self.done < self.first:  # it has begun, or gone back to its checkpoint
            self.first, self.began = self.done, self.looked

    @property
    def speed(self) -> float:
        """Iterations per second since it was first looked at."""
        return (self.done - (self.first or 0)) / max(self.looked - self.began, 1e-9)


@dataclass
class Job:
    """A running job."""

    rule: str
    message: str
    logs: list[str]
    trainings: list[Training]


class View:
    """What is done and what is not, redrawn continually."""

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.done, self.total = 0, 0  # steps
        self.finished, self.before = 0, 0  # iterations of finished runs, and how many of them were done before
        self.began = time.monotonic()
        self.queue = ""  # what SLURM's is doing

    def start(self, record: Any, message: str) -> None:
        trainings = [Training(Path(folder), int(total)) for folder, total in TRAINING.findall(message)]
        self.jobs[record.jobid] = Job(record.rule_name, message, list(record.log), trainings)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        others = [Text(job.message) for job in list(self.jobs.values()) if not job.trainings]
        trainings = [training for job in list(self.jobs.values()) for training in job.trainings]
        for training in trainings:
            if time.monotonic() - training.looked >= len(trainings) / MOST_LOOKS:
                training.look()
        last = [*([Text(self.queue)] if self.queue else []), Text(self._total(trainings), style="bold")]
        # What overflows a terminal is cut off at its end. A heading, and two lines on what is left out, may come on top.
        taken = sum(len(console.render_lines(text, options)) for text in (*others[:MOST_OTHERS], *last))
        room = max(1, options.size.height - taken - 4)
        yield from others[:MOST_OTHERS]
        yield from _left_out(others[MOST_OTHERS:])
        if trainings:
            yield self._rows(trainings[:room])
        yield from _left_out(trainings[room:])
        yield from last

    def _rows(self, trainings: list[Training]) -> Table:
        rows = Table("in training", "", "iterations", "loss", "test", "it/s", "left", box=None, pad_edge=False)
        for column in rows.columns[2:]:
            column.justify, column.no_wrap = "right", True
        rows.columns[0].no_wrap = True
        for training in trainings:
            left = (training.total - training.done) / training.speed if training.speed else None
            rows.add_row(
                training.folder.name,
                ProgressBar(training.total, training.done, width=16),
                f"{training.done:,}/{training.total:,}",
                f"{float(training.loss):.4g}" if training.loss else "",
                f"{float(training.accuracy):.2f} %" if training.accuracy else "",
                f"{training.speed:.3g}" if training.speed else "",
                duration(left, ".0f") if left is not None else "",
            )
        return rows

    def _total(self, trainings: list[Training]) -> str:
        """The last line: steps, iterations, and the time left for all of them at the rate so far."""
        done = self.finished + sum(training.done for training in trainings)
        before = self.before + sum(training.first or 0 for training in trainings)
        speed = (done - before) / max(time.monotonic() - self.began, 1e-9)
        text = f"{self.done} of {self.total} steps"
        if expected:
            text += f", {done:,} of {expected:,} iterations"
        if expected and speed and expected > done:
            text += f", about {duration((expected - done) / speed, '.0f')} left"
        return text


def _left_out(entries: list) -> list[Text]:
    """A line on how many there are, if any."""
    return [Text(f"and {len(entries)} more")] if entries else []


class Lines(DefaultFormatter):
    """Snakemake's lines; for a failed job what it was to do, why SLURM ended or refused it, and its logs."""

    def format_job_error(self, msg: dict) -> str:
        reason = NOT_A_REASON.split(msg["rule_msg"] or "")[0]
        logs = [log for log in msg["log"] if Path(log).exists()] or msg["log"][:1]
        shown = [line for log in logs for line in show_logs([log])]
        return "\n".join([f"{timestamp()}\nFailed: {msg['task']}", *([reason] if reason else []), *shown])


class LogHandler(LogHandlerBase):
    """A handler of Snakemake's log records."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        global is_live
        settings = self.common_settings
        stream = sys.stdout if settings.stdout or settings.dryrun else sys.stderr
        self.lines = ColorizingTextHandler(settings.nocolor, stream, Lines(settings.quiet, settings.show_failed_logs))
        switches = (settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
        self.lines.addFilter(DefaultFilter(*switches))
        silent = {Quietness.ALL, Quietness.PROGRESS} & set(settings.quiet or ())
        is_live = stream.isatty() and not (settings.dryrun or settings.verbose or silent)
        # Drawn by a thread of our own: Live's may finish an old drawing after something else was printed.
        self.view, self.live = View(), Live(console=Console(file=stream), auto_refresh=False, transient=True)
        self.drawing, self.is_closed = threading.RLock(), threading.Event()
        self.messages: dict[int, str] = {}  # what jobs were to do
        self.is_stopped = False
        stop = signal.getsignal(signal.SIGINT)

        def note(number: int, frame: FrameType | None) -> None:
            self.is_stopped = True
            if callable(stop):
                stop(number, frame)

        if callable(stop):  # else it is ignored, as in a background job of a script
            signal.signal(signal.SIGINT, note)

    def emit(self, record: LogRecord) -> None:
        try:
            with self.drawing:
                self._take(record)
        except Exception:  # else nothing more would be reported
            self.handleError(record)

    def _take(self, record: Any) -> None:
        event = get_event(record)
        if self.is_stopped and (event == LogEvent.JOB_ERROR or record.levelno >= WARNING):
            return  # since jobs were asked to end
        if str(record.msg).startswith(NOISE):
            return
        if event == LogEvent.JOB_INFO:
            self.messages[record.jobid] = (record.rule_msg or record.rule_name).strip()
        if event == LogEvent.JOB_ERROR:
            record.task = self.messages.get(record.jobid, record.rule_name)
        if not is_live:
            self.lines.handle(record)
            return
        match event:
            case LogEvent.JOB_INFO:
                self.view.start(record, self.messages[record.jobid])
                self._draw()
            case LogEvent.JOB_FINISHED:
                self._finished(self.view.jobs.pop(record.job_id, None))
            case LogEvent.JOB_ERROR:
                self.view.jobs.pop(record.jobid, None)
                self._tell(self.lines.format(record), "red")
            case LogEvent.PROGRESS:
                self.view.done, self.view.total = record.done, record.total
            case LogEvent.RUN_INFO if not self.view.total:
                self.view.total = record.stats.get("total", 0)
            case _ if str(record.msg).startswith(QUEUE) and record.levelno < WARNING:
                self.view.queue = str(record.msg)
            case _ if record.levelno >= WARNING or event == LogEvent.SHELLCMD or not self.view.total:
                if self.lines.filter(record) and (text := self.lines.format(record)):
                    self._tell(text, "yellow" if record.levelno >= WARNING else "")

    def _draw(self) -> None:
        if not self.live.is_started:
            self.live.start()
            threading.Thread(target=self._draw_often, daemon=True).start()
        self.live.update(self.view, refresh=True)

    def _draw_often(self) -> None:
        while not self.is_closed.wait(SECONDS_BETWEEN_DRAWINGS):
            with self.drawing:
                if self.live.is_started:
                    self.live.refresh()

    def _finished(self, job: Job | None) -> None:
        """Report what was made: for trainings how good the net is, for results that are printed their text."""
        for training in job.trainings if job else ():
            training.look()
            self.view.finished += training.total
            self.view.before += training.first or 0
            accuracy = f", test {float(training.accuracy):.2f} %" if training.accuracy else ""
            self._tell(f"trained {training.folder}: {training.done:,} iterations{accuracy}")
        if job and not job.trainings:
            self._tell(Path(job.logs[0]).read_text() if job.rule in SHOWN else f"done: {job.message}")

    def _tell(self, text: str, style: str = "") -> None:
        self.live.console.print(Text(text.strip("\n"), style=style), soft_wrap=True)

    def close(self) -> None:
        with self.drawing:
            self.is_closed.set()
            if self.live.is_started:
                self.live.stop()
                self._tell(f"{self.view.done} of {self.view.total} steps done")
            if self.is_stopped:
                self._tell(STOPPED)
                self.is_stopped = False  # Snakemake closes twice
        super().close()
