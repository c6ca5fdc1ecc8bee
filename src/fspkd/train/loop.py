"""Train runs side by side on one device, from their starts or checkpoints to their weights and predictions."""

import gc
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import torch
import yaml
from filelock import FileLock, Timeout

from fspkd.data.packed import load_data
from fspkd.engine.batches import Images
from fspkd.engine.device import new_stream
from fspkd.engine.step import steps_of
from fspkd.errors import UserError
from fspkd.files import write_atomically
from fspkd.runs.spec import Run
from fspkd.train.progress import Progress, tell
from fspkd.train.session import Session, is_complete
from fspkd.train.usage import usage_recorded

SECONDS_BETWEEN_TRIES = 2.0
SECONDS_AT_ONCE = 2.0  # of work that a GPU is given, about: meanwhile training can be neither stopped nor saved
FIRST_BLOCK = 10  # iterations that it is given at once at first, when their duration is unknown
NETS_OF_A_GPU = 10  # in a job: with their teachers and regrouped steps, they need at most CUDA's 32 streams


def train(runs: Sequence[Run], device: torch.device, checkpoint_seconds: float, preset: str | None = None) -> None:
    """Train runs on one data set to their ends, each from its checkpoint if there is one, and write their folders.

    A run whose manifest matches its inputs and outputs is complete, and left as it is; if another process is training a
    run, this waits for it. The checkpoint stays, so a job that dies while it finishes, or whose outputs are removed, only
    has to write them again. On SIGTERM and SIGINT it saves checkpoints and exits with 128 plus the signal's number.

    A run's weights have the same bits whatever trains beside it, and whichever `preset` it is trained for. Raises
    UserError for inputs that are missing, damaged or another run's; for code that was edited while this waited; and, after
    the other runs have finished, for a loss or a gradient that is not finite.
    """
    # Of the code that is imported by now, not of what it is edited to while this process waits for another.
    _ = [run.code_sha256 for run in runs]
    with ExitStack() as locks, _stop_signals() as stopped:
        # Sorted, so that two processes never wait for each other.
        claimed = {run.id: _claim(run, locks, stopped) for run in sorted(runs, key=lambda run: run.id)}
        unfinished = [run for run in runs if claimed[run.id]]
        if not unfinished:
            return
        data = unfinished[0].data
        if other := next((run for run in unfinished if run.data != data), None):
            raise UserError(
                f"{unfinished[0].folder} and {other.folder}: are trained on different data. Train them one by one."
            )
        if device.type == "cuda" and len(unfinished) > NETS_OF_A_GPU:
            raise UserError(
                f"a job can train at most {NETS_OF_A_GPU} nets on a GPU, but this one has {len(unfinished)}. Train fewer per "
                f"job, such as three: snakemake --config members=3."
            )
        images = Images(load_data(data), data.settings.augment, device)
        sessions = [Session(run, images, new_stream(device), preset) for run in unfinished]
        for run in unfinished:  # networks and optimizers were imported only by now
            run.check_code()
        with usage_recorded([run.folder for run in unfinished], device):
            Loop(sessions, checkpoint_seconds, stopped).to_the_end()


def _claim(run: Run, locks: ExitStack, stopped: list[int]) -> bool:
    """Wait until no other process trains a run; return whether it is still to be trained.

    Locks its folder and writes its specification there. If it is to be trained, it stays locked until `locks` are
    released, and temporary files of killed processes are removed.
    """
    lock = _lock(run, stopped)
    locks.callback(lock.release)
    specification = yaml.safe_dump(run.spec.model_dump(mode="json"), sort_keys=False)
    write_atomically(run.folder.specification, specification.encode())
    if is_complete(run):
        tell(f"{run.folder}: complete, nothing to do")
        lock.release()  # others need not wait for the rest of this job
        return False
    run.folder.remove_left_overs()
    return True


def _lock(run: Run, stopped: list[int]) -> FileLock:
    """Acquire the lock of a run's folder. Another process may hold it: a cluster job that outlived its Snakemake.

    Raises UserError if the folder cannot be locked.
    """
    lock = run.folder.lock
    try:
        run.folder.path.mkdir(parents=True, exist_ok=True)
        with suppress(Timeout):
            lock.acquire(blocking=False)
        if not lock.is_locked:
            tell(
                f"{run.folder}: another process is training this run: waiting for it to end. If there is none (its node "
                f"failed, and the file server still holds its lock), delete {lock.lock_file}"
            )
        while not lock.is_locked:
            if stopped:
                raise SystemExit(128 + stopped[0])
            with suppress(Timeout):
                lock.acquire(timeout=SECONDS_BETWEEN_TRIES, poll_interval=SECONDS_BETWEEN_TRIES)
    except (OSError, NotImplementedError) as error:
        raise UserError(
            f"{run.folder}: cannot be locked: {error}. Put results in a writable folder, on a file system whose locks "
            f"(flock) work on all nodes, and run the same command again."
        ) from None
    return lock


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list to which SIGTERM and SIGINT add their numbers in this context, instead of their usual effect."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Loop:
    """Runs in training, on one device."""

    def __init__(self, sessions: list[Session], checkpoint_seconds: float, stopped: list[int]) -> None:
        self.sessions, self.checkpoint_seconds, self.stopped = sessions, checkpoint_seconds, stopped
        self.of_member = {session.member: session for session in sessions}
        self.shows = {
            session: Progress(
                session.run.id, session.member.done, session.run.spec.iterations, bool(session.member.stopping)
            )
            for session in sessions
        }
        self.block = FIRST_BLOCK
        self.steps = steps_of([session.member for session in sessions if not session.member.complete], self.block)
        self.failures: list[str] = []

    def to_the_end(self) -> None:
        """Train all runs to their ends; raises UserError for those that failed, if any did."""
        self._retire()
        saved = time.monotonic()
        while self.sessions:
            for session in self.advance():
                self._leave(session)
            stop = next(iter(self.stopped), None)  # read once: a later signal waits for the next round
            if stop or time.monotonic() - saved > self.checkpoint_seconds:
                for session in self.sessions:
                    session.save()
                saved = time.monotonic()
            if stop:
                for session in self.sessions:
                    tell(f"{session.run.id}: signal {stop}, saved at iteration {session.member.done}")
                raise SystemExit(128 + stop)
            self._retire()
        if self.failures:
            raise UserError(" ".join(self.failures))

    def advance(self) -> list[Session]:
        """Run some iterations of every step, queued in turns; the host prepares the next ones while the device works.

        Return the failed sessions. Raises UserError if an iteration draws numbers that no run's seed decides.
        """
        begin, unseeded = time.monotonic(), torch.get_rng_state()
        counts = [step.load() for step in self.steps]
        for number in range(max(counts)):
            for step, count in zip(self.steps, counts, strict=True):
                if number < count:
                    step.iterate()
        for step in self.steps:
            step.prepare()
        measured = [step.fetch() for step in self.steps]
        if not torch.equal(unseeded, torch.get_rng_state()):
            raise UserError(
                f"{', '.join(session.run.id for session in self.sessions)}: PyTorch's own generator was asked for random "
                f"numbers, as its dropout does, and no seed decides them. Take them from the run's draws: docs/methods.md says "
                f"how."
            )
        seconds = time.monotonic() - begin
        failed = []
        self.block = max(1, int(max(counts) * SECONDS_AT_ONCE / seconds))
        for step, of_step in zip(self.steps, measured, strict=True):
            step.block = min(step.longest, self.block)  # the same for all, so that they stay side by side
            for member, values in zip(step.members, of_step, strict=True):
                session = self.of_member[member]
                try:
                    state = session.record(values)
                    self.shows[session].update(member.done, state, member.complete)
                except UserError as failure:
                    tell(f"{failure} The other runs of this job continue.")
                    self.failures.append(str(failure))
                    failed.append(session)
        return failed

    def _retire(self) -> None:
        """Finish the runs that are at their end."""
        for session in [session for session in self.sessions if session.member.complete]:
            session.finish()
            self._leave(session)

    def _leave(self, session: Session) -> None:
        self.sessions.remove(session)
        del self.of_member[session.member], self.shows[session]  # which hold its memory on the device
        self.steps = [step for step in self.steps if session.member not in step.members]
        together = {member for step in self.steps for member in step.members}
        alone = [session.member for session in self.sessions if session.member not in together]
        if regrouped := [member for member in alone if not member.complete]:
            gc.collect()  # frees what the former step, a reference cycle, held on the device, above all its table
            torch.cuda.empty_cache()  # so that it is free for the new step's table; does nothing without a GPU
            self.steps += steps_of(regrouped, self.block)
