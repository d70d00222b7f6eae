"""Damaged files, full disks and read-only folders: each ends in one clear line, or in the same weights."""

import contextlib
import pathlib
import subprocess
from collections.abc import Callable, Iterator

from benchmarks.places import PROJECT, Outcome, Place, linked

NO_ROOM = "No space left on device"


def truncate(path: pathlib.Path) -> None:
    """Cuts the file `path` to half its length."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: pathlib.Path) -> None:
    """Flips one bit in the middle of the file `path`."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << 4
    path.write_bytes(content)


def repaired(
    place: Place, expected: str, damage: Callable[[pathlib.Path], None], pattern: str, less: str = ""
) -> Outcome:
    """Damages the newest file that matches `pattern`, after removing those that match `less`, and runs again."""
    for path in place.folder.glob(less) if less else ():
        path.unlink()
    path = max(place.folder.glob(pattern), key=lambda found: found.stat().st_mtime)
    damage(path)
    done = place.run()
    said = next((line for line in done.stderr.splitlines() if "damaged" in line), "")
    wrong = place.whole_after(done, expected) or ("" if said else "nothing said")
    return Outcome(f"{damage.__name__} {path.name}", not wrong, wrong or place.shortened(said))


def refused(fault: str, done: subprocess.CompletedProcess, place: Place, code: int, words: str) -> Outcome:
    """Judges a run that must end with `code` and one line on stderr that has `words` and no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    held = done.returncode == code and len(lines) == 1 and words in lines[0] and "Traceback" not in done.stderr
    return Outcome(fault, held, place.shortened(lines[0]) if held else place.failure(done))


def damaged_archive(place: Place, damage: Callable[[pathlib.Path], None]) -> Outcome:
    """Damages one archive of a first run."""
    archives = linked(PROJECT / "archives" / "mnist", place.folder / "archives")
    damage(archives / "train-images-idx3-ubyte.gz")
    done = place.run(f"--manual_dir={archives}")
    outcome = refused(f"{damage.__name__} train-images-idx3-ubyte.gz", done, place, 2, "is damaged: expected")
    return outcome


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    """Yields `folder` as a file system of its own that holds `size`; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk: pathlib.Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True, capture_output=True)


def full_disks(folder: pathlib.Path, data_dir: pathlib.Path, expected: str) -> Iterator[Outcome]:
    """Fills the disk under the data, the checkpoints and the export; then makes room, and the run must end well."""
    with small_disk(folder / "disk_data", "30m") as disk:
        place = Place(disk / "place")
        yield refused("full disk, first run", place.run(), place, 1, NO_ROOM)
        left = sorted(path.name for path in place.folder.rglob("*") if path.is_file())
        yield Outcome("full disk, first run: what is left", left == [".lock"], ", ".join(left))
        remount(disk, "size=400m")
        wrong = place.whole_after(place.run(), expected)
        yield Outcome("the same, room made", not wrong, wrong or "same weights")
    for part in ("checkpoints", "export"):
        with small_disk(folder / f"disk_{part}", "1m") as disk:
            place = Place(folder / f"place_{part}", data_dir)
            setattr(place, part, disk / part)
            place.run("--max_steps=300")
            before = {path.name: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
                while filler.write(bytes(4096)) == 4096:
                    pass
            with open(disk / "filler", "r+b") as filler:
                filler.truncate((disk / "filler").stat().st_size - 20_480)  # room for the check of the folder
            yield refused(f"full disk, {part}", place.run(), place, 1, NO_ROOM)
            kept = all(
                (found := next(disk.rglob(name), None)) and found.read_bytes() == content
                for name, content in before.items()
                if name not in ("checkpoint", "filler")
            )
            yield Outcome(f"full disk, {part}: what was there before", kept, "kept" if kept else "lost")
            (disk / "filler").unlink()
            wrong = place.whole_after(place.run(), expected)
            yield Outcome("the same, room made", not wrong, wrong or "same weights")


def read_only_folders(folder: pathlib.Path, data_dir: pathlib.Path, expected: str) -> Iterator[Outcome]:
    """Makes each folder a run writes to read-only, in a way that holds for root too."""
    with small_disk(folder / "disk_read_only", "100m") as disk:
        linked(data_dir, disk / "data")
        remount(disk, "ro")
        place = Place(folder / "read_only", disk / "data")
        wrong = place.whole_after(place.run(), expected)
        yield Outcome("read-only --data_dir, decoded", not wrong, wrong or "same weights")
        for flag in ("data_dir", "checkpoint_dir", "export_dir", "logdir"):
            done = place.run(f"--{flag}={disk / 'new'}")
            yield refused(f"read-only --{flag}", done, place, 2, f"--{flag}: {disk}")
        yield refused("read-only --record", place.run(f"--record={disk / 'new'}"), place, 2, "--record=")
