"""What a user can get wrong, and what can go wrong in a run: one line each, never a traceback."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

# What a damaged file cannot raise: a full disk, and rights.
OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

# What TensorFlow adds to an error: its names of nodes, and where in Python it arose.
NOISE = r"\{\{.*?\}\} |\[\[.*| \[Op:\w+\].*|Traceback \(most recent.*"

OUT_OF_MEMORY = r"(?i)out.of.memory"  # as CUDA and XLA say it

before_leaving: list[Callable[[], object]] = []  # called by `end`


class InputError(Exception):
    """Bad input: the message names the flag or file, what was found and what is allowed."""

    exit_code = 2


class RunError(Exception):
    """A run that failed although its input was good."""

    exit_code = 1


class Stopped(Exception):  # noqa: N818 - no error
    """A run that was told to stop: the message says what it reached."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def reason(error: BaseException | str) -> str:
    """Returns why something failed, on one line, in the words of the system where it has some."""
    words = getattr(error, "strerror", None) or getattr(error, "message", None) or error
    words = re.sub(NOISE, "", str(words), flags=re.DOTALL)
    return " ".join(words.split()) or type(error).__name__


def of_the_system(error: BaseException) -> bool:
    """Says whether memory, a disk or rights caused an error, and not the content of a file."""
    names = {"MemoryError", "ResourceExhaustedError", "PermissionDeniedError"}
    return type(error).__name__ in names or getattr(error, "errno", None) in OF_THE_SYSTEM


@contextlib.contextmanager
def one_line(leave: bool = False) -> Iterator[None]:
    """Ends the process with one line on stderr where what may be expected to go wrong does.

    With `leave` it ends in any case.
    """
    open_streams()
    code = 0
    try:
        yield
        sys.stdout.flush()
    except BaseException as error:
        code = _say(error)
        if not code:
            raise
    if code or leave:
        end(code)


def exit_with_one_line(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code, or with one line on stderr, as `one_line` does."""
    with one_line():
        code = main() or 0
    end(code)


def _say(error: BaseException) -> int:
    """Prints a line on stderr; returns the exit code, 0 for a fault of this program."""
    if isinstance(error, BrokenPipeError) and error.filename:
        return 141  # whoever read what this prints has gone, as `head` does
    if isinstance(error, KeyboardInterrupt):
        error = Stopped("stopped by SIGINT", 130)
    if not (line := _line(error)):
        return 0
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(line if isinstance(error, Stopped) else f"error: {line}", file=sys.stderr, flush=True)
    return getattr(error, "exit_code", 1)


def _line(error: BaseException) -> str:
    """Returns what to say of an error; nothing for a fault of this program."""
    kinds, why = {kind.__name__ for kind in type(error).__mro__}, reason(error)
    if hasattr(error, "exit_code"):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {why}"
    if isinstance(error, OSError) and "temporary directory" in why:
        return "TMPDIR: no folder for temporary files can be written; name one there"
    full = kinds & {"MemoryError", "ResourceExhaustedError"} and "space left" not in why
    if full or ("OpError" in kinds and re.search(OUT_OF_MEMORY, why)):
        return f"out of memory ({why}): a smaller --batch_size or --input=stream needs less"
    if "OpError" in kinds:
        return f"TensorFlow failed: {why}; what was written before is kept"
    return ""


def is_alone() -> bool:
    """Says whether no profiler, debugger, notebook or prompt waits for an orderly end."""
    if sys.flags.inspect or sys.gettrace() or sys.getprofile():
        return False
    frame = outermost = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_globals.get("__name__") != "runpy":
            outermost = frame
    return os.path.abspath(outermost.f_code.co_filename) == os.path.abspath(sys.argv[0])


def end(code: int, at_once: bool = False) -> None:
    """Ends the process, after the calls of `before_leaving`.

    It ends at once where it may: taking TensorFlow down in an orderly way takes longer than a short
    training, for nothing. Elsewhere it raises SystemExit, or returns if all went well.
    """
    for call in before_leaving:
        with contextlib.suppress(OSError):
            call()
    if at_once or is_alone():
        os._exit(code)
    if code:
        sys.exit(code)


class _Stream(io.FileIO):
    """stdout, named in its errors, or stderr, where a full disk fails nothing."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if self.fileno() == 2:
                return len(data)
            error.filename = "standard output"
            raise


def open_streams() -> None:
    """Opens the streams that are closed, so that no other file gets their numbers.

    What they cannot encode, such as the name of a class, is escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is taken
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in enumerate(("stdout", "stderr"), 1):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):
            text = io.TextIOWrapper(
                io.BufferedWriter(_Stream(number, "w", closefd=False)),
                encoding=getattr(stream, "encoding", "utf-8"),
                errors="backslashreplace",
                line_buffering=number == 2 or os.isatty(number),
            )
            setattr(sys, name, text)
