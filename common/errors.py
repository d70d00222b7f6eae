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
    """Bad input: the message names the flag or file, what was found, what is allowed, what to
    do."""

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
    """Says whether memory, a disk or rights are to blame for an error, not the content of a
    file."""
    tensorflows = type(error).__name__ in ("ResourceExhaustedError", "PermissionDeniedError")
    return (
        isinstance(error, MemoryError)
        or tensorflows
        or getattr(error, "errno", None) in OF_THE_SYSTEM
    )


@contextlib.contextmanager
def one_line(leave: bool = False) -> Iterator[None]:
    """Ends the process with one line on stderr where what may be expected to go wrong does.

    With `leave` it ends in any case.
    """
    open_streams()
    try:
        yield
        code = 0
        sys.stdout.flush()
    except Stopped as stopped:
        code = _complain(str(stopped), stopped.exit_code)
    except (InputError, RunError) as error:
        code = _complain(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        code = _complain("stopped by SIGINT", 130)
    except OSError as error:
        if not (line := _of_a_file(error)):
            raise
        # whoever read what this prints has gone, as `head` does
        gone = isinstance(error, BrokenPipeError)
        code = 141 if gone else _complain(f"error: {line}", 1)
    except Exception as error:
        if not (line := _failed(error)):
            raise
        code = _complain(f"error: {line}", 1)
    if code or leave:
        end(code)


def is_alone() -> bool:
    """Says whether no profiler, debugger, notebook or prompt waits for an orderly end."""
    tools = getattr(sys, "monitoring", None)  # as profilers and debuggers are from Python 3.12 on
    watched = tools and any(tools.get_tool(number) for number in range(6))
    if watched or sys.flags.inspect or sys.gettrace() or sys.getprofile():
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


def exit_with_one_line(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits with its code; what may be expected to go wrong becomes one line on
    stderr."""
    with one_line():
        code = main() or 0
    end(code)


class _Stdout(io.FileIO):
    """stdout, named in its errors."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


class _Stderr(io.FileIO):
    """stderr, where a full disk fails nothing."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            super().write(data)
        return len(data)


def open_streams() -> None:
    """Opens the streams that are closed, so that no other file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # the lowest number that is free is taken
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is sys.__stdout__:
        buffer = io.BufferedWriter(_Stdout(1, "w", closefd=False))
        sys.stdout = _text(buffer, sys.stdout, line_buffering=os.isatty(1))
    if sys.stderr is sys.__stderr__:
        raw: Any = _Stderr(2, "w", closefd=False)
        sys.stderr = _text(raw, sys.stderr, line_buffering=True)


def _text(binary: Any, before: Any, line_buffering: bool) -> io.TextIOWrapper:
    """Returns a text stream; what it cannot encode, such as the name of a class, is escaped."""
    encoding = getattr(before, "encoding", "utf-8")
    write_through = not isinstance(binary, io.BufferedWriter)
    return io.TextIOWrapper(
        binary,
        encoding,
        errors="backslashreplace",
        line_buffering=line_buffering,
        write_through=write_through,
    )


def _of_a_file(error: OSError) -> str | None:
    """Returns what to say of a file, standard output or TMPDIR; None for a fault of this
    program."""
    if error.filename:
        return f"{error.filename}: {reason(error)}"
    if "temporary directory" in str(error):
        return "TMPDIR: no folder for temporary files can be written; name one there"
    return None


def _failed(error: Exception) -> str | None:
    """Returns what to say where memory has run out, or TensorFlow has failed; None for a fault of
    this program."""
    kinds, why = {kind.__name__ for kind in type(error).__mro__}, reason(error)
    full = kinds & {"MemoryError", "ResourceExhaustedError"} or (
        "OpError" in kinds and re.search(OUT_OF_MEMORY, why)
    )
    if full and "space left" not in why:
        return f"out of memory ({why}): a smaller --batch_size or --input=stream needs less"
    return (
        f"TensorFlow failed: {why}; what was written before is kept" if "OpError" in kinds else None
    )


def _complain(line: str, code: int) -> int:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    return code
