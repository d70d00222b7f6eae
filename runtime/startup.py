"""Starts TensorFlow quietly and fast. The program would also run without this module."""

import contextlib
import gc
import os
import tempfile
from collections.abc import Iterator

from common.errors import InputError

LEGACY_KERAS = "TF_USE_LEGACY_KERAS"  # TensorFlow's own variables
LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def prepare(device: str) -> None:
    """Keeps CUDA out of a TensorFlow that is not yet imported if --device is cpu.

    Raises FileNotFoundError if there is no temporary folder, which the import needs.
    """
    tempfile.gettempdir()
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Imports TensorFlow in the `with` block quietly, and without Keras and pyplot, which are slow.

    TensorFlow looks for tf_keras instead, and imports nothing if that is not installed. Keras is
    still imported when a program asks for it. Garbage collection is off in the block, and later
    skips the objects that the block made.
    """
    os.environ[LEGACY_KERAS] = "1"
    # otherwise TensorFlow writes ~/.keras, and a user without a home gets a folder called ~
    os.environ.setdefault("KERAS_HOME", os.devnull)
    gc.disable()
    try:
        with quiet():
            yield
        gc.freeze()
    finally:
        gc.enable()
        os.environ.pop(LEGACY_KERAS, None)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what the `with` block writes to file descriptor 2, and shows it if the block raises.

    TensorFlow writes some notices before it reads TF_CPP_MIN_LOG_LEVEL. At level 0 everything is
    shown at once. At any other level only errors are shown after the block, and at level 3 none.
    """
    level = os.environ.get(LOG_LEVEL)
    if level == "0":
        yield
        return
    os.environ[LOG_LEVEL] = "3" if level == "3" else "2"
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as notices:
        os.dup2(notices.fileno(), 2)
        try:
            yield
        except InputError:
            raise
        except Exception:
            notices.seek(0)
            os.write(stderr, notices.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
