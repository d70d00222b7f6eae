"""The decoded form of a dataset: .npy files, and about.json with what they are and their checksums."""

import concurrent.futures
import dataclasses
import hashlib
import json
import math
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from common.errors import RunError, of_the_system, reason
from common.files import OURS

FOLDER, ABOUT, FORMAT = "decoded", "about.json", 2
VALIDATION_SHARE = 12  # one twelfth of the training split validates: the article's 5,000 of 60,000
PIECE = 4 * 2**20  # bytes that have one CRC-32
ALIGNMENT = 64  # bytes; TensorFlow takes what is aligned without a copy
# the version this project is written for; any other dataset: its newest
VERSIONS = {"mnist": "3.*.*"}


@dataclasses.dataclass(frozen=True)
class OnDisk:
    """An array [n, features] that stays in its file: `array[start:stop]` reads these rows."""

    path: pathlib.Path
    offset: int  # bytes
    shape: tuple[int, int]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * self.shape[1]

    @property
    def end(self) -> int:
        """Where the array ends in its file, in bytes."""
        return self.offset + len(self) * self.row_bytes

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.read([range(len(self))[rows]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:]

    def read(self, runs: Sequence[range], buffer: np.ndarray | None = None) -> np.ndarray:
        """Returns `buffer` [bytes] uint8, a new one if there is none, as rows: those of `runs`, then what it held.

        Raises RunError if the file ends before the rows do.
        """
        if buffer is None:
            buffer = aligned(sum(map(len, runs)) * self.row_bytes)
        try:
            with open(self.path, "rb", buffering=0) as file:
                filled = 0
                for run in runs:
                    file.seek(self.offset + run.start * self.row_bytes)
                    filled += _fill(file, buffer[filled:][: len(run) * self.row_bytes])
        except (OSError, EOFError) as error:
            raise RunError(f"{self.path}: cannot be read any more: {reason(error)}") from None
        return buffer.view(self.dtype).reshape(-1, self.shape[1])


Images = np.ndarray | OnDisk  # [n, features] uint8


@dataclasses.dataclass(frozen=True)
class Decoded:
    """The splits as (images, labels [n] int32), what the classes are called, and a checksum of all of it."""

    train: tuple[Images, np.ndarray]
    validation: tuple[Images, np.ndarray]
    test: tuple[Images, np.ndarray]
    class_names: list[str]
    image_shape: tuple[int, ...]
    checksum: str


def aligned(size: int, at: int = 0) -> np.ndarray:
    """Returns an uninitialised buffer [size] uint8 whose byte `at` is aligned."""
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -(buffer.ctypes.data + at) % ALIGNMENT
    return buffer[start : start + size]


def is_aligned(array: np.ndarray) -> bool:
    """Says whether TensorFlow can take an array as it is."""
    return array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0


def _fill(file: Any, buffer: np.ndarray) -> int:
    """Fills `buffer` from `file` and returns its size; raises EOFError if the file ends before."""
    filled = 0
    while filled < len(buffer):
        got = file.readinto(buffer[filled:])
        if not got:
            raise EOFError("it ends too soon")
        filled += got
    return filled


def folders(name: str, root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the decoded folders of a dataset below `root`, the newest version first."""
    dataset, _, version = name.partition(":")
    pattern = f"{version or VERSIONS.get(dataset, '*')}/{FOLDER}/{ABOUT}"
    found = [*root.glob(f"{dataset}/{pattern}")]
    if "/" not in dataset:  # tfds's default of several configs
        found += [path for path in root.glob(f"{dataset}/*/{pattern}") if _is_default(path)]
    versions = {
        path.parent: path.parts[-3].split(".")
        for path in found
        if OURS not in str(path.relative_to(root))
    }
    whole = {
        folder: [*map(int, parts)]
        for folder, parts in versions.items()
        if all(map(str.isdecimal, parts))
    }
    return sorted(whole, key=whole.__getitem__, reverse=True)


def _is_default(path: pathlib.Path) -> bool:
    try:
        return bool(json.loads(path.read_text())["default_config"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read(folder: pathlib.Path, most_bytes: float = math.inf) -> Decoded:
    """Returns what is kept in `folder`: the images on the disk, if those of train have more than `most_bytes`.

    Raises:
      ValueError: it is damaged, or of another format.
      RunError: it may be whole, and cannot be read for want of memory or of rights.
    """
    try:
        return _read(folder, most_bytes)
    except MemoryError:
        raise RunError(
            f"{folder}: does not fit into memory; --input=stream needs less memory"
        ) from None
    except Exception as error:  # a flipped bit can make JSON and NumPy raise anything
        if of_the_system(error):
            raise RunError(f"{folder}: cannot be read: {reason(error)}") from None
        raise ValueError(f"{folder}: {reason(error)}") from error


def _read(folder: pathlib.Path, most_bytes: float) -> Decoded:
    about = json.loads((folder / ABOUT).read_text())
    if about["format"] != FORMAT:
        raise ValueError(f"has format {about['format']}, not {FORMAT}")
    if about.pop("sha256") != digest(about):
        raise ValueError(f"{ABOUT} is not whole")
    sums = about["crc32"]
    arrays = {name: _on_disk(folder / f"{name}.npy", sums[name]) for name in sums}
    in_memory = len(arrays["train_images"]) * arrays["train_images"].row_bytes <= most_bytes
    cut = len(arrays["train_labels"]) // VALIDATION_SHARE
    splits: dict[str, tuple[Images, np.ndarray]] = {}
    for split, at in (("train", cut), ("test", 0)):
        images, labels = (
            f"{split}_images",
            _whole(arrays[f"{split}_labels"], sums[f"{split}_labels"]),
        )
        if in_memory:
            splits[split] = _whole(arrays[images], sums[images], at), labels.reshape(-1)
        else:
            # it has the header
            _read_piece(arrays[images], sums[images], 0, aligned(min(arrays[images].end, PIECE)))
            splits[split] = arrays[images], labels.reshape(-1)
    train, labels = splits["train"]
    return Decoded(
        train=(_rows(train, cut, len(labels)), labels[cut:]),
        validation=(_rows(train, 0, cut), labels[:cut]),
        test=splits["test"],
        class_names=about["class_names"],
        image_shape=tuple(about["image_shape"]),
        checksum=digest(sums),
    )


def digest(content: Any) -> str:
    """Returns the SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _rows(array: Images, start: int, stop: int) -> Images:
    """Returns some rows of an array; those of one on the disk stay there."""
    if isinstance(array, np.ndarray):
        return array[start:stop]
    offset = array.offset + start * array.row_bytes
    return dataclasses.replace(array, offset=offset, shape=(stop - start, array.shape[1]))


def _on_disk(path: pathlib.Path, sums: Sequence[int]) -> OnDisk:
    """Returns the array in a .npy file, left there; raises ValueError if the file has another length than its array."""
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    found = OnDisk(path, mapped.offset, (len(mapped), math.prod(mapped.shape[1:])), mapped.dtype)
    if path.stat().st_size != found.end or len(sums) != -(-found.end // PIECE):
        raise ValueError(f"{path.name} has not the length it must have")
    return found


def _whole(array: OnDisk, sums: Sequence[int], aligned_row: int = 0) -> np.ndarray:
    """Returns an array read from the disk, one of its rows aligned; raises ValueError where a CRC-32 is another."""
    buffer = aligned(array.end, array.offset + aligned_row * array.row_bytes)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:  # one reads while the other computes
        list(pool.map(lambda number: _read_piece(array, sums, number, buffer), range(len(sums))))
    return buffer[array.offset :].view(array.dtype).reshape(array.shape)


def _read_piece(array: OnDisk, sums: Sequence[int], number: int, buffer: np.ndarray) -> None:
    """Reads a piece of a file to its place in `buffer`; raises ValueError if its CRC-32 is another."""
    piece = buffer[number * PIECE : (number + 1) * PIECE]
    with open(array.path, "rb", buffering=0) as file:
        file.seek(number * PIECE)
        _fill(file, piece)
    if zlib.crc32(piece.data) != sums[number]:
        raise ValueError(f"{array.path.name} has another CRC-32 than it was written with")


def describe(
    folder: pathlib.Path,
    class_names: list[str],
    image_shape: Sequence[int],
    default_config: bool = False,
) -> None:
    """Writes about.json, of the .npy files in `folder`: {train,test}_{images,labels}.npy."""
    about = {
        "format": FORMAT,
        "class_names": class_names,
        "image_shape": list(image_shape),
        "default_config": default_config,  # of those that tfds has of this dataset
        "crc32": {path.stem: _checksums(path) for path in sorted(folder.glob("*.npy"))},
    }
    (folder / ABOUT).write_text(json.dumps(about | {"sha256": digest(about)}))


def _checksums(path: pathlib.Path) -> list[int]:
    """Returns the CRC-32 of each PIECE of a file."""
    with open(path, "rb") as file:
        return [zlib.crc32(piece) for piece in iter(lambda: file.read(PIECE), b"")]
