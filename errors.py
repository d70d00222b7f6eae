"""What a user can get wrong, and what can go wrong in a run: one line each, never a traceback."""

import errno
import os
import re
import sys
from collections.abc import Callable

# What a damaged file cannot raise: a full disk, and rights.
OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


class InputError(Exception):
    """Bad input: the message names the flag or file, what was found, what is allowed, what to do."""

    exit_code = 2


class RunError(Exception):
    """A run that failed although its input was good."""

    exit_code = 1


class Stopped(Exception):  # noqa: N818 - no error
    """A run that was told to stop: the message says what it reached."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


def reason(error: BaseException) -> str:
    """Returns why something failed, on one line, in the words of the system where it has some."""
    words = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    words = re.sub(r"\{\{.*?\}\} | \[Op:\w+\]", "", str(words))  # TensorFlow's names of nodes
    return " ".join(words.split()) or type(error).__name__


def of_the_system(error: BaseException) -> bool:
    """Says whether memory, a disk or rights are to blame for an error, not the content of a file."""
    tensorflows = type(error).__name__ in ("ResourceExhaustedError", "PermissionDeniedError")
    return isinstance(error, MemoryError) or tensorflows or getattr(error, "errno", None) in OF_THE_SYSTEM


def exit_with_one_line(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code; an expected error becomes one line on stderr."""
    try:
        code = main() or 0
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        code = stopped.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking TensorFlow down in an orderly way costs 0.7 s, for nothing
