"""A dataset in three splits, whose images are mapped into memory. A stream reads those of train."""

import concurrent.futures
import dataclasses
import io
from collections.abc import Iterator

import numpy as np

from common.errors import RunError, reason

READERS = 4  # threads, enough to keep a disk busy


@dataclasses.dataclass(frozen=True)
class Split:
    """Examples in the dataset's own order: images [n, features] uint8 and labels [n] int32.

    Streamed images are a map of their file, which may be larger than the memory. To train, read
    them with `read`.
    """

    images: np.ndarray
    labels: np.ndarray
    streamed: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def chunks(self, rows: int = 5_000) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (images, labels), at most `rows` rows at a time."""
        for first in range(0, len(self), rows):
            yield self.images[first : first + rows], self.labels[first : first + rows]

    def read(self, rows: np.ndarray, buffer: np.ndarray) -> None:
        """Reads `rows` [n] of streamed images into the first n of `buffer` [.., features] uint8.

        Consecutive rows are read in one piece, a few pieces at once. Reading through the map could
        not report an error.

        Raises:
          RunError: the file cannot be read any more.
        """
        path = self.images.filename  # type: ignore[attr-defined]
        offset = self.images.offset  # type: ignore[attr-defined]

        def read_piece(first: np.integer, piece: np.ndarray) -> None:
            with io.FileIO(path) as file:
                file.seek(offset + int(first) * piece.shape[1])
                if file.readinto(piece.data) < piece.nbytes:
                    raise OSError("it ends too soon")

        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        pieces = np.split(buffer[: len(rows)], starts[1:])
        try:
            with concurrent.futures.ThreadPoolExecutor(READERS) as readers:
                list(readers.map(read_piece, rows[starts], pieces))
        except OSError as error:
            raise RunError(f"{path}: cannot be read any more: {reason(error)}") from None


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The three splits of an image-classification dataset, with the names of its classes."""

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: list[str]
    image_shape: tuple[int, ...]
    checksum: str = ""  # of all images and labels

    @property
    def num_features(self) -> int:
        return self.train.images.shape[1]
