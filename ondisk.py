"""Arrays that stay in their file until a part of them is read."""

import dataclasses
import math
import pathlib
import struct
import zipfile
from collections.abc import Sequence

import numpy as np

ALIGNMENT = 64  # bytes


@dataclasses.dataclass(frozen=True)
class ArrayOnDisk:
    """An array [n, ...] in a file: `array[start:stop]` is another, and `np.asarray(array)` reads it."""

    path: pathlib.Path
    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def __getitem__(self, rows: slice) -> "ArrayOnDisk":
        start, stop, _ = rows.indices(len(self))
        shape = (max(0, stop - start), *self.shape[1:])
        return dataclasses.replace(self, offset=self.offset + start * self.row_bytes, shape=shape)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        """Reads the array; raises ValueError if the file ends before it does."""
        return read([self])


def read(parts: Sequence[ArrayOnDisk]) -> np.ndarray:
    """Returns arrays of the same file one behind the other, aligned so that TensorFlow takes them without a copy.

    Raises ValueError if the file ends before they do.
    """
    rows = sum(map(len, parts))
    size = rows * parts[0].row_bytes
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    buffer = buffer[-buffer.ctypes.data % ALIGNMENT :][:size]
    filled = 0
    with open(parts[0].path, "rb", buffering=0) as file:
        for part in parts:
            file.seek(part.offset)
            end = filled + len(part) * part.row_bytes
            while filled < end:
                got = file.readinto(buffer[filled:end])
                if not got:
                    raise ValueError(f"{part.path} ends too soon")
                filled += got
    return buffer.view(parts[0].dtype).reshape(rows, *parts[0].shape[1:])


class OnDisk(zipfile.ZipFile):
    """The arrays of an uncompressed .npz by name, like np.load's, but left on the disk until they are read."""

    def __getitem__(self, name: str) -> ArrayOnDisk:
        """Returns an array; raises KeyError if there is none of that name, ValueError if it is not whole."""
        info = self.getinfo(f"{name}.npy")
        with open(self.filename, "rb") as file:
            file.seek(info.header_offset + 26)  # zip's local header: 30 bytes, two lengths last, then name and extra
            file.seek(sum(struct.unpack("<HH", file.read(4))), 1)
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            array = ArrayOnDisk(pathlib.Path(self.filename), file.tell(), shape, dtype)
        if info.compress_type != zipfile.ZIP_STORED or fortran:
            raise ValueError(f"{name} is not stored row by row")
        return array


class InMemory(zipfile.ZipFile):
    """The arrays of an uncompressed .npz by name, like np.load's, but each checked against its CRC-32."""

    def __getitem__(self, name: str) -> np.ndarray:
        with self.open(f"{name}.npy") as file:
            array = np.lib.format.read_array(file)
            if file.read(1):  # zip compares CRC-32s at the end of a file only, and np.load may stop before it
                raise ValueError(f"{name} goes on behind its end")
        return array


def load(path: pathlib.Path, most_bytes: float) -> "OnDisk | InMemory":
    """Returns the arrays of an .npz by name: left on the disk if train_images has more than `most_bytes`."""
    arrays = OnDisk(path)
    train_images = arrays["train_images"]
    if len(train_images) * train_images.row_bytes > most_bytes:
        return arrays
    arrays.close()
    return InMemory(path)
