"""Programs that XLA has compiled for this CPU, kept for later runs: to load one takes half as long as to compile it.

XLA keeps and finds them itself, in a folder. But it runs whatever is there, and ends the run where a program is damaged
or cannot be written. So the folder is this user's own, can be written, and has a checksum of each program.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import stat
import time
from collections.abc import Iterable, Iterator

import flags
from common.files import try_writing, write_atomically
from runtime import devices

XLA_FLAGS, FOLDER = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory"  # TensorFlow's own
CPU_LINES = ("model", "cpu family", "stepping", "flags", "CPU ", "Features")  # on x86 and on Arm
MOST = 64  # programs kept
ROOM = 2**20  # bytes; a program has some 170 kB
FOR_SURE = 3600  # seconds after which nobody is writing a file any more


@dataclasses.dataclass
class _State:
    folder: pathlib.Path | None = None  # that XLA has been given
    loaded: bool = False


_state = _State()


def recall(config: flags.Config) -> None:
    """Has a TensorFlow that is not yet imported take the programs that runs like this one have kept.

    Does nothing where it cannot tell for which CPU and TensorFlow they are, or the user has given XLA a folder.
    """
    folder, given = _folder(config), os.environ.get(XLA_FLAGS, "")
    if not folder or FOLDER in given or _names_a_file(given):
        return
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_of_this_user(folder):
            return
        try_writing(folder, ROOM)
        _remove([program for program in folder.glob("*.pb") if not _is_sound(program)])
        os.environ[XLA_FLAGS] = (
            f"{given} {FOLDER}={folder} --tf_xla_persistent_cache_device_types=CPU".lstrip()
        )
        _state.folder = folder


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps the programs that are compiled inside, where `recall` was called; after an error none of them stays."""
    if not (folder := _state.folder):
        yield
        return
    before = _written(folder)
    try:
        yield
    except Exception:  # XLA may have refused one
        _remove(_written(folder))
        raise
    after = _written(folder)
    new = [program for program, written in after.items() if written != before.get(program)]
    _state.loaded = bool(after) and not new
    for program in new:
        with contextlib.suppress(OSError):  # what has no checksum is compiled again
            _write_checksum(program)
    if new:
        _clean_up(folder.parent)


def loaded() -> bool:
    """Says whether all programs that XLA has taken for the CPU were kept by earlier runs."""
    return _state.loaded


def _folder(config: flags.Config) -> pathlib.Path | None:
    """Returns the folder of this user's programs for this CPU, this TensorFlow and a kind of run; None if unknown."""
    library, home = (
        devices.library(),
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
    )
    cpu = sorted({line for line in devices.cpu_info() if line.startswith(CPU_LINES)})
    asked = [os.environ.get(name, "") for name in ("XLA_FLAGS", devices.THREADS)]
    if (
        config.mode != "xla"
        or config.device == "gpu"
        or not library
        or not cpu
        or _names_a_file(asked[0])
    ):
        return None
    # XLA takes what follows a space for another flag
    if not os.path.isabs(home) or re.search(r"[\s'\"\\]", home):
        return None
    status = library.stat()
    build = str(library), status.st_size, status.st_mtime_ns
    run = config.strategy, config.batch_size, devices.cores()
    key = hashlib.sha256(repr((cpu, asked, build, run)).encode()).hexdigest()[:16]
    return pathlib.Path(home, "softmax-regression", key)


def _names_a_file(given: str) -> bool:
    """Says whether a variable with flags for XLA names a file that has them, whose content is unknown here."""
    return bool(given.strip()) and not given.strip().startswith("--")


def _is_of_this_user(folder: pathlib.Path) -> bool:
    """Says whether nobody else can have put programs there."""
    status = folder.lstat()
    return (
        stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def _written(folder: pathlib.Path) -> dict[pathlib.Path, tuple[int, int]]:
    """Returns the programs in a folder, each with what changes when it is written again."""
    found = {}
    for program in folder.glob("*.pb"):
        with contextlib.suppress(OSError):  # another run has removed it
            status = program.stat()
            found[program] = status.st_ino, status.st_mtime_ns
    return found


def _is_sound(program: pathlib.Path) -> bool:
    with contextlib.suppress(OSError):
        return _checksum(program).read_text() == _line(program)
    return False


def _write_checksum(program: pathlib.Path) -> None:
    write_atomically(_checksum(program), lambda file: file.write(_line(program).encode()))


def _checksum(program: pathlib.Path) -> pathlib.Path:
    return program.with_name(f"{program.name}.sha256")


def _line(program: pathlib.Path) -> str:
    """Returns what `sha256sum` writes of a program, and reads."""
    return f"{hashlib.sha256(program.read_bytes()).hexdigest()}  {program.name}\n"


def _remove(programs: Iterable[pathlib.Path]) -> None:
    for program in programs:
        with contextlib.suppress(OSError):
            _checksum(program).unlink(missing_ok=True)
            program.unlink()


def _clean_up(home: pathlib.Path) -> None:
    """Removes all but the newest programs below `home`, what killed runs have half written, and empty folders."""
    with contextlib.suppress(OSError):
        _remove(sorted(home.glob("*/*.pb"), key=os.path.getmtime)[:-MOST])
    leftover = {
        "*/*.tmp": pathlib.Path.unlink,
        "*/.*.sha256.*": pathlib.Path.unlink,
        "*": pathlib.Path.rmdir,
    }
    for pattern, remove in leftover.items():
        for path in home.glob(pattern):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - FOR_SURE:
                    remove(path)
