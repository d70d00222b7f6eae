"""Who can take part: name, where the code is, what it needs, and on which devices it can run."""

import dataclasses
import importlib
import importlib.util
import os
import pathlib
import shutil
import sys
from typing import Any

from common.files import PROJECT

DEVICE_NAMES = ("cpu", "gpu")
HERE = pathlib.Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Contender:
    """`module:class` of a Peer and its options, or the command of a program; the package or the tool that it needs."""

    code: str = ""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "comparison.old_worker")
    place: pathlib.Path | None = PROJECT  # where the command runs; None: where the user stands
    package: str | None = None
    tool: str | None = None
    devices: tuple[str, ...] = DEVICE_NAMES

    def load(self) -> type:
        """Imports and returns the class, a `peers.Peer`."""
        module, name = self.code.split(":")
        return getattr(importlib.import_module(module), name)

    def missing(self) -> str | None:
        """Returns why this contender cannot take part here, if it cannot."""
        if self.package and not importlib.util.find_spec(self.package):
            return (
                f"{self.package} is not installed: python -m pip install -r requirements/peers.txt"
            )
        if self.tool and not shutil.which(self.tool):
            return f"{self.tool} is not found: install a compiler, or name one in the environment as CC"
        return None


CONTENDERS = {
    "xla": Contender("comparison.ours:Ours", {"mode": "xla"}),
    "graph": Contender("comparison.ours:Ours", {"mode": "graph"}),
    "eager": Contender("comparison.ours:Ours", {"mode": "eager"}),
    "usual": Contender("comparison.peers.usual:Usual"),
    "article": Contender("comparison.peers.article_tf1:ArticleTF1"),
    "keras": Contender("comparison.peers.keras_fit:KerasFit"),
    "keras_best": Contender("comparison.peers.keras_fit:KerasFit", {"best": True}),
    "numpy_best": Contender("comparison.peers.numpy_sgd:NumpySGD", devices=("cpu",)),
    "torch": Contender("comparison.peers.torch_autograd:TorchAutograd", package="torch"),
    "torch_best": Contender("comparison.peers.torch_best:TorchBest", package="torch"),
    "jax": Contender("comparison.peers.jax_scan:JaxScan", package="jax"),
    "jax_best": Contender("comparison.peers.jax_scan:JaxScan", {"by_class": True}, package="jax"),
    "c": Contender(
        command=("sh", str(HERE / "peers" / "softmax.sh")),
        tool=os.environ.get("CC", "cc"),
        devices=("cpu",),
    ),
}
