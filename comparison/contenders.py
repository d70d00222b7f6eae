"""Who can take part: name, where the code is, what it needs, and on which devices it can run."""

import dataclasses
import importlib
import importlib.util
from typing import Any

DEVICE_NAMES = ("cpu", "gpu")


@dataclasses.dataclass(frozen=True)
class Contender:
    """`module:class` of a Peer, its options, and the package it needs beyond requirements.txt."""

    code: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    package: str | None = None
    devices: tuple[str, ...] = DEVICE_NAMES

    def load(self) -> type:
        """Imports and returns the class, a `peers.Peer`."""
        module, name = self.code.split(":")
        return getattr(importlib.import_module(module), name)

    def installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package) is not None


CONTENDERS = {
    "xla": Contender("comparison.ours:Ours", {"mode": "xla"}),
    "graph": Contender("comparison.ours:Ours", {"mode": "graph"}),
    "eager": Contender("comparison.ours:Ours", {"mode": "eager"}),
    "article": Contender("comparison.peers.article_tf1:ArticleTF1"),
    "keras": Contender("comparison.peers.keras_fit:KerasFit"),
    "keras_best": Contender("comparison.peers.keras_fit:KerasFit", {"best": True}),
    "numpy": Contender("comparison.peers.numpy_sgd:NumpySGD", devices=("cpu",)),
    "numpy_best": Contender("comparison.peers.numpy_sgd:NumpySGD", {"by_class": True}, devices=("cpu",)),
    "torch": Contender("comparison.peers.torch_autograd:TorchAutograd", package="torch"),
    "jax": Contender("comparison.peers.jax_scan:JaxScan", package="jax"),
    "jax_best": Contender("comparison.peers.jax_scan:JaxScan", {"by_class": True}, package="jax"),
}
