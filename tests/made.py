"""Data made for the tests: a dataset of tfds, and a split that stays in its file."""

import pathlib
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

import data

tfds.disable_progress_bar()


def streamed(images: np.ndarray, labels: np.ndarray, folder: pathlib.Path) -> data.Split:
    """Returns a split of images [n, features] that stay in a file in `folder`."""
    np.save(folder / "images.npy", images)
    return data.Split(np.load(folder / "images.npy", mmap_mode="r"), labels, streamed=True)


def examples(count: int, labels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns random images [count, 4, 4, 1] uint8 and labels that go round `labels`."""
    rng = np.random.default_rng(count)
    return rng.integers(256, size=(count, 4, 4, 1), dtype=np.uint8), np.resize(labels, count)


class Made(tfds.core.GeneratorBasedBuilder):
    """The dataset "made" of tfds: a test may patch what is in it."""

    VERSION = tfds.core.Version("1.0.0")
    splits: ClassVar = {"train": examples(48, [0, 1]), "test": examples(20, [0, 1])}
    image = tfds.features.Image(shape=(4, 4, 1))
    label = tfds.features.ClassLabel(num_classes=37)
    keys: tuple[str, str] | None = ("image", "label")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"image": self.image, "label": self.label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=self.keys)

    def _split_generators(self, _: object) -> dict:
        return {name: self._generate_examples(*pair) for name, pair in self.splits.items()}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield i, {"image": image, "label": label}
