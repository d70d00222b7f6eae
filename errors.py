"""What a user can get wrong, and what can go wrong in a run: one line each, never a traceback."""

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
        sys.exit(main())
    except (InputError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
