"""Errors that a user can act on, and how a command reports them."""

import errno
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable

OF_THE_MACHINE = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or ask for a larger quota",
    errno.EMFILE: "Allow more open files (ulimit -n 4096)",
    errno.ENFILE: "Stop the programs that have so many files open",
    errno.EACCES: "Make it readable and its folder writable",
    errno.EISDIR: "Remove that folder",
    errno.ENOTDIR: "Remove the file that is where a folder should be",
    errno.EROFS: "Make the file system writable",
    errno.EIO: "The disk is failing: use another",
    errno.ESTALE: "Wait until the network file system answers",
    errno.ETIMEDOUT: "Wait until the network file system answers",
}  # what to do about system errors
OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|out of memory|_ALLOC_FAILED|can't allocate memory|not enough memory|Cannot allocate memory|bad_alloc|"
    r"failed to map segment|Storage size calculation overflowed"
)


class UserError(Exception):
    """Something that the user must change: the message names the file, key and value and what to do."""


def is_of_the_machine(error: Exception) -> bool:
    """Whether the machine caused an error, such as too little memory or no permission to read a file, and not the data."""
    of_the_system = isinstance(error, OSError) and error.errno in OF_THE_MACHINE
    return (
        of_the_system
        or isinstance(error, MemoryError)
        or bool(OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))
    )


def advice(error: OSError) -> str:
    """What to do about a system error, without the full stop."""
    return OF_THE_MACHINE.get(error.errno or 0, "Make it readable and its folder writable")


class DamagedError(UserError):
    """A file that is not as it was written."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command; errors that users can act on end it with one paragraph and exit status 1, no traceback."""
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("stopped: run the same command again to resume", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if (message := _message(error)) is None:
            raise
        print(textwrap.fill(f"error: {message}", 120, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # at exit Python flushes again, and would print an error of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise SystemExit(1) from None


def _message(error: Exception) -> str | None:
    """The message for an error that a user can act on; None for any other."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"{error.filename}: {error.strerror}. If the workflow makes this file, run: snakemake {error.filename}"
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        where = f"{error.filename or 'a file, or standard output'}: {error.strerror}"
        return f"{where}. {OF_THE_MACHINE[error.errno]}, and run the same command again: finished work is kept."
    # CUDA's error about an interrupted capture hides the error that interrupted it.
    covered = error.__context__ if isinstance(error, RuntimeError) else None
    if is_of_the_machine(error) or OUT_OF_MEMORY.search(f"{type(covered).__name__}: {covered}"):
        return (
            "there is not enough memory. Train fewer nets side by side (--config members=1), ask the cluster for more, or stop "
            "other programs, and run the same command again: training resumes from its last checkpoint."
        )
    return None
