"""Send in the background: a separate process sends what steps write, while they run and once more at their end.

So no step waits for a tracking server or fails with it, or spends time on importing MLflow.

    python -m fspkd.tracking.follow SECONDS RESULTS...     send what is in those folders every SECONDS seconds, until
                                                           standard input is closed
"""

import math
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from fspkd.errors import UserError
from fspkd.plan import Plan
from fspkd.plans import load_plans
from fspkd.result import results_of
from fspkd.runs.journal import read_journal
from fspkd.runs.spec import Run

if TYPE_CHECKING:
    from fspkd.tracking.sync import Sync

SECONDS_BETWEEN_SENDINGS = 30
SECONDS_TO_FORGIVE = 5
SECONDS_TO_FINISH = "FSPKD_MLFLOW_SECONDS"  # the variable that says how long the wait at the end may be
LOCK = FileLock("mlflow.lock", timeout=600, fallback_to_soft=False)
FOLLOWED = "FSPKD_FOLLOWED"  # set in the environment of a process already followed


class Follower:
    """The process that follows folders of results; does nothing if this process is already followed."""

    def __init__(self) -> None:
        text = os.environ.get(SECONDS_TO_FINISH, "5")
        try:
            self.seconds_to_finish = float(text)
        except ValueError:
            raise UserError(f"{SECONDS_TO_FINISH}={text}: must be a number of seconds, such as 5.") from None
        self.process: subprocess.Popen | None = None

    def start(self, results: list[str]) -> None:
        """Start following them."""
        if FOLLOWED not in os.environ:
            command = [sys.executable, "-m", "fspkd.tracking.follow", str(SECONDS_BETWEEN_SENDINGS), *results]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE)
            os.environ[FOLLOWED] = "1"

    def stop(self) -> None:
        """Have the rest sent, and wait for it briefly: what is not sent by then is sent next time."""
        if self.process and self.process.stdin:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=self.seconds_to_finish)
            except subprocess.TimeoutExpired:
                self.process.kill()
                tell("the rest is sent next time; to send it now: make mlflow")
            del os.environ[FOLLOWED]
            self.process = None


@contextmanager
def followed(results: Path) -> Iterator[None]:
    """While the context lasts, another process follows that folder of results."""
    follower = Follower()
    follower.start([str(results)])
    try:
        yield
    finally:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        follower.stop()  # the step has ended, so signals have nothing to stop
        for number, handler in before.items():
            signal.signal(number, handler)


def has_begun(plan: Plan) -> bool:
    """Whether anything was made for a preset: a table or figure, or a net that others may share."""
    drawn = (Path(result.file) for result in results_of(plan) if result.kind in ("table", "figure"))
    return any(file.exists() for file in drawn) or any(_trains(plan.preset.name, run) for run in plan.runs.values())


def _trains(preset: str, run: Run) -> bool:
    """Whether a run was last trained for a preset; True if that cannot be read, since those who send tell why."""
    try:
        journal = read_journal(run.folder)
    except OSError:
        return True
    return journal is not None and journal.attempt.preset == preset


class Sender:
    """Sends folders of results, whenever it is asked to."""

    def __init__(self, results: list[Path]) -> None:
        self.results = results
        self.plans: dict[str, Plan] = {}
        self.syncs: dict[Path, Sync] = {}
        self.problems: list[str] = []
        self.has_answer = True  # whether the store answered last time

    def send(self) -> bool:
        """Send what is new; problems are printed once, and kept in `problems`. Returns whether everything is sent."""
        problems: list[str] = []
        self.has_answer = True
        if missing := {str(results) for results in self.results} - self.plans.keys():
            self.plans |= load_plans(only=missing)[0]  # ignores problems: presets may be half edited
        for results in self.results:
            plan = self.plans.get(str(results))
            if results not in self.syncs and (plan is None or not has_begun(plan)):
                continue
            try:
                with LOCK:  # one process at a time checks what is there and sends the rest
                    if plan and results not in self.syncs:
                        from fspkd.tracking.sync import Sync

                        self.syncs[results] = Sync(plan)
                    problems += self.syncs[results].send_all()
                for damage in self.syncs[results].new_damage():
                    tell(damage)
            except UserError as error:  # which does not affect the other folders
                problems.append(str(error))
            except Exception as error:  # a tracking server may fail in any way; results must not
                self.syncs.pop(results, None)
                problems.append(textwrap.shorten(f"{type(error).__name__}: {error}", 300))
                if not is_refusal(error):  # one that does not answer now would be waited for with every folder
                    self.has_answer = False
                    break
        if problems and problems != self.problems:
            again = f"python scripts/sync_mlflow.py {' '.join(map(str, self.results))}"
            tell(f"not everything was sent: {'; '.join(problems)}. Nothing else is affected. To send the rest: {again}")
        elif self.problems and not problems:
            tell("everything has been sent")
        self.problems = problems
        return not problems


def is_refusal(error: Exception) -> bool:
    """Whether a tracking server answered, but refused, such as to write to somebody else's experiment."""
    status = getattr(error, "get_http_status_code", None)  # MLflow's errors have it
    return status is not None and 400 <= status() < 500


def tell(text: str) -> None:
    """Print a line about MLflow, without the passwords of addresses in it."""
    print(f"MLflow: {without_password(text)}", file=sys.stderr, flush=True)


def without_password(text: str) -> str:
    """A text without the users and passwords of its addresses."""
    return re.sub(r"//[^/ ]*@", "//***@", text)


def follow(sender: Sender, seconds: float) -> None:
    """Send every `seconds`, and once more when standard input is closed, unless the store has just failed.

    The followed process holds the other end of standard input, so its death ends this one too, however it dies.
    """
    failed_at = -math.inf
    while not select.select([sys.stdin], [], [], seconds)[0]:
        sender.send()
        if not sender.has_answer:
            failed_at = time.monotonic()
    if time.monotonic() - failed_at > SECONDS_TO_FORGIVE:
        sender.send()


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the followed process decides when this one ends
    os.nice(10)  # training goes first
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "4")  # seconds: the followed process waits at its end
    seconds, *results = sys.argv[1:]
    sender = Sender([Path(folder) for folder in results])
    follow(sender, float(seconds))
    if sender.syncs and not sender.problems:
        store = os.environ.get("MLFLOW_TRACKING_URI", "mlflow.db")
        tell(f"all runs are in {store}; sending them took {time.process_time():.0f} s of processor time")


if __name__ == "__main__":
    main()
