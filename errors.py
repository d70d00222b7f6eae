"""What a user can get wrong, and what can go wrong in a run: one line each, never a traceback."""

import os
import sys
from collections.abc import Callable


class InputError(Exception):
    """Bad input: the message names the flag or file, what was found, what is allowed, what to do."""

    exit_code = 2


class RunError(Exception):
    """A run that failed although its input was good."""

    exit_code = 1


def exit_with_one_line(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code; an expected error becomes one line on stderr."""
    try:
        code = main() or 0
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking TensorFlow down in an orderly way costs 0.7 s, for nothing
