"""Programs that XLA has compiled for this CPU, kept for later runs: to load one takes half as long as to compile it.

XLA can write and read them itself, but it writes them in place, and fails at one that is cut short. So each process
hands it a folder of its own; between the runs a program lies compressed, with a checksum, and is written whole.
"""

import contextlib
import gzip
import hashlib
import importlib.metadata
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Iterator

import flags
from common.errors import before_leaving
from common.files import OURS, write_atomically
from runtime import devices

XLA_FLAGS, FOLDER = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory"  # TensorFlow's own
CPU_INFO = pathlib.Path("/proc/cpuinfo")
LEAST_ROOM = 64 * 2**20  # bytes; on a disk that is full, what XLA cannot write would end the run

_folders: list[tuple[pathlib.Path, pathlib.Path]] = []  # where programs are kept, and where XLA has them


def recall(config: flags.Config) -> None:
    """Has a TensorFlow that is not yet imported take the programs that runs like this one have kept.

    Does nothing where /proc/cpuinfo does not tell what the CPU can do, or the user has given XLA a folder.
    """
    kept, given = _kept(config), os.environ.get(XLA_FLAGS, "")
    if not kept or FOLDER in given:
        return
    with contextlib.suppress(OSError):
        own = pathlib.Path(tempfile.mkdtemp(prefix=f"{OURS}."))
        before_leaving.append(lambda _: shutil.rmtree(own, ignore_errors=True))
        if shutil.disk_usage(own).free >= LEAST_ROOM:
            for name, program in _sound(kept):
                (own / name).write_bytes(program)
            os.environ[XLA_FLAGS] = f"{given} {FOLDER}={own} --tf_xla_persistent_cache_device_types=CPU"
            _folders.append((kept, own))


def _sound(folder: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields the programs that are kept in a folder, but those that are damaged."""
    for path in folder.glob("*.gz"):
        with contextlib.suppress(OSError, EOFError, zlib.error):
            if program := gzip.decompress(path.read_bytes()):
                yield path.stem, program


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps the programs that are compiled inside, where `recall` was called; what cannot be kept is compiled again."""
    before = {path for _, own in _folders for path in own.iterdir()}
    yield
    for folder, own in _folders:
        for program in set(own.iterdir()) - before:
            with contextlib.suppress(OSError):
                _keep(program, folder)
        shutil.rmtree(own, ignore_errors=True)  # here too, so that a process that is killed later leaves none


def _keep(program: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    packed = gzip.compress(program.read_bytes(), mtime=0)
    write_atomically(folder / f"{program.name}.gz", lambda file: file.write(packed))


def _kept(config: flags.Config) -> pathlib.Path | None:
    """Returns the folder of this user's programs for this CPU, TensorFlow and kind of run; None for an unknown CPU."""
    try:
        told = CPU_INFO.read_text().splitlines()
    except OSError:
        return None
    cpu = sorted({line for line in told if line.startswith(("model name", "flags", "CPU ", "Features"))})
    settings = [os.environ.get(name) for name in ("XLA_FLAGS", devices.THREADS)]
    run = importlib.metadata.version("tensorflow"), devices.cores(), config.dataset, config.batch_size, config.mode
    key = hashlib.sha256(repr((cpu, settings, run)).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home, "softmax-regression", key)
