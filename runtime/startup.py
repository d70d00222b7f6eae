"""Starts TensorFlow quietly and fast. Without it only time and a quiet screen would be lost."""

import contextlib
import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator

from common.errors import InputError

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"  # TensorFlow's own variables
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Imports TensorFlow in the `with` block: quietly, and without what a training does not need.

    Ends the process with one line where TensorFlow is not installed.
    """
    if not importlib.util.find_spec("tensorflow"):
        sys.exit("error: tensorflow is not installed: python -m pip install -r requirements.txt")
    with quiet("TensorFlow is being started ..."), without_keras(), without_collecting():
        yield


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Looks for no garbage in the `with` block, nor later among the objects it made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def without_keras() -> Iterator[None]:
    """Lets TensorFlow, imported in the `with` block, leave Keras and pyplot alone, which take long.

    TensorFlow looks for tf_keras instead, and imports nothing if that is not installed. Keras is
    still imported when it is asked for.
    """
    before = os.environ.get(LEGACY_KERAS)
    os.environ[LEGACY_KERAS] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[LEGACY_KERAS]
        else:
            os.environ[LEGACY_KERAS] = before


def _write(descriptor: int, content: bytes) -> None:
    """Writes to stderr, where a full disk fails nothing."""
    with contextlib.suppress(OSError):
        os.write(descriptor, content)


@contextlib.contextmanager
def quiet(waiting: str = "") -> Iterator[None]:
    """Holds what the `with` block writes to file descriptor 2, and shows it if the block raises.

    TensorFlow writes some notices before it reads TF_CPP_MIN_LOG_LEVEL. At level 0 everything is
    shown at once; at any other level only errors are shown afterwards, at level 3 none. A terminal
    shows `waiting` meanwhile.
    """
    if os.environ.get(LOG_LEVEL) == "0":
        yield
        return
    if os.environ.get(LOG_LEVEL) != "3":
        os.environ[LOG_LEVEL] = "2"
    sys.stderr.flush()
    stderr = os.dup(2)
    terminal = waiting if os.isatty(2) else ""
    _write(stderr, terminal.encode())
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except BaseException:
            notices.seek(0)
            _write(stderr, notices.read())
            raise
        finally:
            blank = f"\r{' ' * len(terminal)}\r" if terminal else ""
            _write(stderr, blank.encode())
            os.dup2(stderr, 2)
            os.close(stderr)
