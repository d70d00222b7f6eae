"""Errors of the user and of a run: one line each, never a traceback."""

import contextlib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

# What TensorFlow adds to an error: names of nodes, and the place in Python.
NOISE = r"(?s)\{\{.*?\}\} |\[\[.*| \[Op:\w+\].*|Traceback \(most recent.*|Original stack trace.*"

# as CUDA and XLA say it, TensorFlow's allocators, and TensorFlow when it copies a tensor to a GPU
OUT_OF_MEMORY = r"(?i)out.of.memory|oom when|to allocate|dst tensor is not initialized"


class InputError(Exception):
    """Bad input: the message names the flag or file, what was found and what is allowed."""

    exit_code = 2


class RunError(Exception):
    """A run that failed although its input was good."""

    exit_code = 1


class Stopped(Exception):  # noqa: N818 - no error
    """A run that the signal `number` has stopped: the message says what it reached."""

    def __init__(self, number: int, reached: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} {reached}".rstrip())
        self.exit_code = 128 + number


def reason(error: BaseException | str) -> str:
    """Returns why something failed, in one line, with the system's words if there are any."""
    words = str(getattr(error, "strerror", None) or error)
    words = re.sub(NOISE, "", words)
    return " ".join(words.split()) or type(error).__name__


def say(line: str) -> None:
    """Prints a line on stderr, which does not mix with the output of a program."""
    print(line, file=sys.stderr)


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Ends the process with one line on stderr after an expected error in the `with` block."""
    open_streams()
    try:
        yield
    except BrokenPipeError:  # the reader of the output has gone, as `head` does
        end(141)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            error = Stopped(signal.SIGINT)
        if not (line := _line(error)):
            raise
        if not isinstance(error, Stopped):
            line = f"error: {line}"
        with contextlib.suppress(OSError):  # a full disk, or a terminal that was closed
            print(*line.splitlines(), file=sys.stderr)
        end(getattr(error, "exit_code", 1))


def exit_with_one_line(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code, or with one line on stderr, as `one_line` does."""
    with one_line():
        code = main() or 0
    end(code)


def _line(error: BaseException) -> str:
    """Returns what to say of an error; "" for a bug in this program."""
    why = reason(error)
    if hasattr(error, "exit_code"):
        return str(error)
    if isinstance(error, OSError):
        if "temporary directory" in why:
            return "TMPDIR: no folder for temporary files can be written; set TMPDIR to one"
        return f"{error.filename}: {why}" if error.filename else why
    of_tensorflow = hasattr(error, "node_def")  # an OpError; TensorFlow is not imported for it
    if isinstance(error, MemoryError) or (of_tensorflow and re.search(OUT_OF_MEMORY, why)):
        return f"out of memory ({why}): a smaller --batch_size or --input=stream needs less"
    if of_tensorflow:
        return f"TensorFlow failed: {why}; what was written before is kept"
    return ""


def is_alone() -> bool:
    """Says whether the process may end at once, outside a debugger, profiler or notebook."""
    if sys.flags.inspect or sys.gettrace() or sys.getprofile():
        return False
    outermost = traceback.extract_stack()[0]
    return os.path.abspath(outermost.filename) == os.path.abspath(sys.argv[0])


def end(code: int) -> None:
    """Ends the process.

    It ends at once if it may, because an orderly shutdown of TensorFlow takes longer than a short
    training run. Otherwise it raises SystemExit, or returns if `code` is 0.
    """
    if is_alone():
        os._exit(code)
    if code:
        sys.exit(code)


def open_streams() -> None:
    """Opens the streams that are closed, so that no other file gets their numbers.

    Each line of stdout is written at once, as those of stderr are, so nobody has to flush it.
    Characters that stdout cannot encode, such as in the name of a class, are escaped.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115 - the lowest free number
    if hasattr(sys.stdout, "reconfigure"):  # a notebook's cannot
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
