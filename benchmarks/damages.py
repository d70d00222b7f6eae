"""Damaged files, full disks and read-only folders: each ends in one clear line, or in the same weights."""

import contextlib
import functools
import json
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.places import Outcome, Place
from common.errors import RunError
from common.files import PROJECT
from storage import cache

NO_ROOM = "No space left on device"
DECODED = "data/mnist/decoded"
# What is damaged, and what is removed first so that it is read at all; of folders the decoded one in it.
DAMAGED = (
    ("checkpoints/step-*.data*", None),
    ("checkpoints/step-*.index", None),
    (f"{DECODED}/train_images.npy", None),
    (f"{DECODED}/test_labels.npy", None),
    (f"{DECODED}/about.json", None),
    ("data/mnist/*/mnist-train.tfrecord*", DECODED),
    ("data/mnist/*/dataset_info.json", DECODED),
)
FOREIGN = "first run beside a preparation by another program"
# So long that the file is cut before it is read to its end, the next parts read ahead included.
STREAMED, TIMES = (
    ("--input=stream", "--max_steps=0", "--epochs=3", "--checkpoint_every=1000", "--eval_first=0"),
    6,
)
Damage = Callable[[pathlib.Path], None]


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
    place: Place, expected: str, damage: Damage, pattern: str, less: str | None
) -> Outcome:
    """Damages the newest file that matches `pattern`, after removing folders that match `less`, and runs again."""
    for folder in place.folder.glob(less) if less else ():
        shutil.rmtree(folder)
    path = max(place.folder.glob(pattern), key=lambda found: found.stat().st_mtime)
    damage(path)
    done = place.run()
    said = next(
        (
            line
            for line in done.stderr.splitlines()
            if path.name.split(".")[0] in line or "again" in line
        ),
        "",
    )
    wrong = place.whole_after(done, expected) or ("" if said else "nothing said")
    return Outcome(f"{damage.__name__} {path.name}", not wrong, wrong or place.shortened(said))


def damaged_archive(place: Place, damage: Damage) -> Outcome:
    """Damages one archive of a first run."""
    archives, name = place.folder / "archives", "train-images-idx3-ubyte.gz"
    shutil.copytree(PROJECT / "archives" / "mnist", archives)
    damage(archives / name)
    done = place.run(f"--manual_dir={archives}")
    return place.refused(f"{damage.__name__} {name}", done, 2, "is damaged: expected")


def longer(folder: pathlib.Path, place: Place) -> pathlib.Path:
    """Puts a decoded dataset into `place`, each training example several times: it is then read in parts.

    Returns the file of its training images.
    """
    new = place.folder / folder.relative_to(folder.parents[2])
    new.mkdir(parents=True)
    for path in folder.glob("*.npy"):
        array = np.load(path)
        np.save(
            new / path.name,
            np.concatenate([array] * (TIMES if path.name.startswith("train") else 1)),
        )
    about = json.loads((folder / cache.ABOUT).read_text())
    cache.describe(new, about["class_names"], about["image_shape"])
    return new / "train_images.npy"


def foreign_preparation(place: Place, folder: pathlib.Path, expected: str) -> Outcome:
    """Makes a first run while another program's tfds has a preparation under way in the same place, `folder`."""
    half = folder / "half"
    folder.mkdir(parents=True)
    half.write_text("another program's")
    done = place.run()
    if not half.exists() or half.read_text() != "another program's":
        return Outcome(FOREIGN, False, "what the other program had written is gone")
    shutil.rmtree(folder)
    return place.same_weights(FOREIGN, done, expected)


def cut_stream(folder: pathlib.Path, first: Place) -> Iterator[Outcome]:
    """Cuts the file of a stream in the middle of an epoch; then puts it back, and the run must end well."""
    whole, place = (
        Place(folder / "stream"),
        Place(folder / "stream_cut", folder / "stream" / "data"),
    )
    images = longer(next(first.folder.glob(DECODED)), whole)
    if (done := whole.run(*STREAMED)).returncode:
        raise RunError(f"the streamed run failed: {done.stderr.strip()}")
    content = images.read_bytes()
    done = place.broken_run("step ", lambda: truncate(images), *STREAMED)
    yield place.refused(
        "the file of a stream cut mid-epoch", done, 1, "cannot be read any more: it ends too soon"
    )
    images.write_bytes(content)
    yield place.same_weights("the same, the file put back", place.run(*STREAMED), whole.weights())


def all_damages(
    folder: pathlib.Path, first: Place, expected: str
) -> Iterator[Callable[[], Outcome]]:
    """Yields what truncates and flips a bit of every kind of file, each in a copy of the place `first`, and a rival."""
    place, prepared = Place(folder / "foreign"), next(first.folder.glob(DECODED)).parent
    # as tfds names it
    other = place.data_dir / prepared.parent.name / f"incomplete.ABC_{prepared.name}"
    yield functools.partial(foreign_preparation, place, other, expected)
    for damage in (truncate, flip):
        for number, (pattern, less) in enumerate(DAMAGED):
            place = Place(folder / f"{damage.__name__}_{number}", copy_of=first)
            yield functools.partial(repaired, place, expected, damage, pattern, less)
        place = Place(folder / f"{damage.__name__}_archive")
        yield functools.partial(damaged_archive, place, damage)


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> Iterator[pathlib.Path]:
    """Yields `folder` as a file system of its own that holds `size`; needs root."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
        check=True,
        capture_output=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(disk: pathlib.Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True, capture_output=True)


def fill(disk: pathlib.Path) -> None:
    """Fills a disk with the file `filler`, but for what the check of a folder takes."""
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)) == 4096:
            pass
    with open(disk / "filler", "r+b") as filler:
        filler.truncate((disk / "filler").stat().st_size - 20_480)


def full_disks(folder: pathlib.Path, data_dir: pathlib.Path, expected: str) -> Iterator[Outcome]:
    """Fills the disk under the data, the checkpoints and the export; then makes room, and the run must end well."""
    with small_disk(folder / "disk_data", "30m") as disk:
        place = Place(disk / "place")
        yield place.refused("full disk, first run", place.run(), 1, NO_ROOM)
        left = sorted(path.name for path in place.folder.rglob("*") if path.is_file())
        yield Outcome("full disk, first run: what is left", left == [".lock"], ", ".join(left))
        remount(disk, "size=400m")
        yield place.same_weights("the same, room made", place.run(), expected)
    for part in ("checkpoints", "export"):
        with small_disk(folder / f"disk_{part}", "1m") as disk:
            place = Place(folder / f"place_{part}", data_dir)
            setattr(place, part, disk / part)
            place.run("--max_steps=300")
            before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
            fill(disk)
            yield place.refused(f"full disk, {part}", place.run(), 1, NO_ROOM)
            # it names the newest, and there may be a newer
            before.pop(disk / part / "checkpoint", None)
            lost = [
                path.name
                for path, content in before.items()
                if not path.exists() or path.read_bytes() != content
            ]
            yield Outcome(
                f"full disk, {part}: what was there before",
                not lost,
                f"lost {lost}" if lost else "kept",
            )
            (disk / "filler").unlink()
            yield place.same_weights("the same, room made", place.run(), expected)


def read_only_folders(
    folder: pathlib.Path, data_dir: pathlib.Path, expected: str
) -> Iterator[Outcome]:
    """Makes each folder a run writes to read-only, in a way that holds for root too."""
    with small_disk(folder / "disk_read_only", "100m") as disk:
        shutil.copytree(data_dir, disk / "data")
        remount(disk, "ro")
        place = Place(folder / "read_only", disk / "data")
        yield place.same_weights("read-only --data_dir, decoded", place.run(), expected)
        for flag in ("data_dir", "checkpoint_dir", "export_dir", "logdir"):
            done = place.run(f"--{flag}={disk / 'new'}")
            yield place.refused(f"read-only --{flag}", done, 2, f"--{flag}: {disk}")
        yield place.refused(
            "read-only --record", place.run(f"--record={disk / 'new'}"), 2, "--record="
        )
