"""Who takes part in the open division: python -m comparison.entrants NAME FOLDER. Settings were chosen by trying."""

import json
import pathlib
import sys
import time
from typing import Any

import numpy as np

from common.errors import exit_with_one_line
from comparison.peers import scaled
from comparison.work import Work

# For a target up to this: epochs and learning rate of ours; iterations of scikit-learn's.
OURS = ((0.915, (2, 0.003)), (0.92, (10, 0.001)), (0.923, (30, 0.001)), (1.0, (100, 0.0003)))
SKLEARN = ((0.91, 20), (0.92, 40), (0.922, 50), (0.925, 100), (1.0, 300))


def settings(of: tuple[tuple[float, Any], ...], target: float) -> Any:
    """Returns the cheapest settings that were seen to reach `target`."""
    return next(chosen for up_to, chosen in of if target <= up_to)


def ours(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, job: dict
) -> tuple[np.ndarray, float]:
    """Returns the predictions and the seconds of training of train.py in its fastest mode."""
    from comparison.ours import Ours

    epochs, lr = settings(OURS, job["target_accuracy"])
    unknown, order = np.zeros(len(test_images), np.int32), np.empty((epochs, 0))
    steps = epochs * -(-len(labels) // 10)
    work = Work(
        images, labels, test_images, unknown, order, job["num_classes"], 10, steps, lr, job["seed"]
    )
    peer = Ours(work, "cpu", "xla")
    peer.compile()
    peer.reset()
    began = time.perf_counter()
    peer.train()
    W, b = peer.weights()
    seconds = time.perf_counter() - began
    return (scaled(test_images) @ W + b).argmax(axis=1), seconds


def sklearn(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, job: dict
) -> tuple[np.ndarray, float]:
    """Returns the predictions and the seconds of training, conversion included, of LogisticRegression by L-BFGS."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")  # that it has not converged is meant
    began = time.perf_counter()
    fitted = LogisticRegression(max_iter=settings(SKLEARN, job["target_accuracy"])).fit(
        scaled(images), labels
    )
    seconds = time.perf_counter() - began
    return fitted.predict(scaled(test_images)), seconds


def main() -> None:
    """Trains, and leaves predictions.npy and result.json."""
    train, folder = {"ours": ours, "sklearn": sklearn}[sys.argv[1]], pathlib.Path(sys.argv[2])
    images, labels, test_images = (
        np.load(folder / f"{name}.npy") for name in ("images", "labels", "test_images")
    )
    predictions, seconds = train(
        images, labels, test_images, json.loads((folder / "job.json").read_text())
    )
    np.save(folder / "predictions.npy", predictions)
    (folder / "result.json").write_text(json.dumps({"train": [seconds]}))


if __name__ == "__main__":
    exit_with_one_line(main)
