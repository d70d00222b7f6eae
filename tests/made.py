"""Datasets made for the tests, prepared by tfds itself."""

import contextlib
import gzip
import hashlib
import pathlib
import struct
from collections.abc import Callable, Iterator, Mapping
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification import mnist

import data
from tests.conftest import learnable_split

tfds.disable_progress_bar()


def streamed(images: np.ndarray, labels: np.ndarray, folder: pathlib.Path) -> data.Split:
    """Returns a split of images [n, features] that stay in a file in `folder`."""
    np.save(folder / "images.npy", images)
    return data.Split(np.load(folder / "images.npy", mmap_mode="r"), labels, streamed=True)


def prepare(
    root: pathlib.Path,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    image: tfds.features.FeatureConnector,
    label: tfds.features.FeatureConnector,
    keys: tuple[str, str] | None = ("image", "label"),
    dataset: str = "made",
) -> tfds.core.DatasetBuilder:
    """Has tfds prepare a dataset below `root`, and returns its builder.

    The splits have images [n, height, width, channels] uint8 and labels [n].
    """
    with tfds.core.registered.skip_registration():

        class Made(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            name = dataset

            def _info(self) -> tfds.core.DatasetInfo:
                return self.dataset_info_from_configs(
                    features=tfds.features.FeaturesDict({"image": image, "label": label}),
                    supervised_keys=keys,
                )

            def _split_generators(self, _: object) -> dict:
                return {
                    name: self._generate_examples(*examples) for name, examples in splits.items()
                }

            def _generate_examples(self, images: np.ndarray, labels: np.ndarray):
                for i, pair in enumerate(zip(images, labels, strict=True)):
                    yield i, dict(zip(("image", "label"), pair, strict=True))

    builder = Made(data_dir=root)
    builder.download_and_prepare()
    return builder


@contextlib.contextmanager
def fashion_mnist(
    archives: pathlib.Path, num_train: int, num_test: int
) -> Iterator[Callable[[pathlib.Path], None]]:
    """Makes four archives of learnable images, which tfds takes for those of fashion_mnist inside
    the `with` block.

    Yields what has tfds prepare them below a folder.
    """
    archives.mkdir()
    url_infos = {}
    for prefix, count in (("train", num_train), ("t10k", num_test)):
        split = learnable_split(count, seed=count)
        for kind, header, array in (
            ("images-idx3", struct.pack(">4I", 2051, count, 28, 28), split.images),
            ("labels-idx1", struct.pack(">2I", 2049, count), split.labels.astype(np.uint8)),
        ):
            name = f"{prefix}-{kind}-ubyte.gz"
            content = gzip.compress(header + array.tobytes())
            (archives / name).write_bytes(content)
            url_infos[mnist.FashionMNIST.URL + name] = tfds.download.checksums.UrlInfo(
                size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename=name
            )

    def prepare_below(root: pathlib.Path) -> None:
        config = tfds.download.DownloadConfig(manual_dir=archives)
        tfds.builder("fashion_mnist", data_dir=root).download_and_prepare(download_config=config)

    with (
        mock.patch.object(mnist, "_TRAIN_EXAMPLES", num_train),
        mock.patch.object(mnist, "_TEST_EXAMPLES", num_test),
        mock.patch.object(mnist.FashionMNIST, "url_infos", url_infos),
    ):
        yield prepare_below
