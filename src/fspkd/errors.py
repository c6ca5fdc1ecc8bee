"""Errors that a user can act on, and how a command reports them."""

import sys
import textwrap
from collections.abc import Callable


class UserError(Exception):
    """Something that the user must change: the message names the file, key and value and what to do."""


class DamagedError(UserError):
    """A file that is not as it was written."""


def run_command(main: Callable[[], None]) -> None:
    """Run a command; a UserError or a missing file ends it with one paragraph and exit status 1, not a traceback."""
    try:
        main()
    except (UserError, FileNotFoundError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError) and error.filename:
            message = f"{error.filename}: {error.strerror}. Snakemake makes what the workflow makes: snakemake {error.filename}"
        print(textwrap.fill(f"error: {message}", 120, break_long_words=False, break_on_hyphens=False), file=sys.stderr)
        raise SystemExit(1) from None
