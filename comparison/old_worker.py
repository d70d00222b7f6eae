"""One measurement in a fresh process: python -m comparison.old_worker FOLDER, which has job.json and the arrays in it.

It does what any program does that takes part (docs/comparison.md), for the contender that job.json names.
"""

import json
import pathlib
import sys
import time
from typing import Any

import numpy as np
import psutil

from common.errors import exit_with_one_line
from comparison import gpus, machine, work
from comparison.contenders import CONTENDERS
from comparison.peers import Peer
from runtime.clock import Ledger


def measure(folder: pathlib.Path) -> None:
    """Lets the contender do the job until it has been timed for long enough; leaves W.npy, b.npy and result.json."""
    job = json.loads((folder / "job.json").read_text())
    ledger, seconds = Ledger(), [0.0]
    entry = CONTENDERS[job["contender"]]
    peer = entry.load()(work.load(folder), job["device"], **entry.options)
    ledger.barrier = peer.barrier
    ledger.barrier()
    start = time.time() - psutil.Process().create_time()
    with ledger("compile"):
        peer.compile()
    before = _warm(peer) if job["device"] == "gpu" else None
    while seconds[-1] < job["min_seconds"]:
        peer.reset()
        with ledger("train"):
            peer.train()
        seconds.append(ledger.parts["train"])
    after = gpus.state() if before else None
    with ledger("evaluate"):
        num_correct = peer.num_correct()
    for name, array in zip(("W", "b"), peer.weights(), strict=True):
        np.save(folder / f"{name}.npy", array)
    parts = {
        "start": start,
        "compile": ledger.parts["compile"],
        "evaluate": ledger.parts["evaluate"],
    }
    found = {
        "train": np.diff(seconds).tolist(),
        "num_correct": num_correct,
        "peak_mib": machine.peak_mib(),
    }
    states = {"gpu": [before, after]} if before and after else {}
    (folder / "result.json").write_text(json.dumps(found | parts | states))


def _warm(peer: Peer) -> dict[str, Any] | None:
    """Lets a GPU work, so that its clock is up when the steps are timed; returns its state then."""
    began = time.perf_counter()
    while time.perf_counter() - began < gpus.WARM_SECONDS:
        peer.reset()  # the weights that this leaves are dropped before the clock starts
        peer.train()
        peer.barrier()
    return gpus.state()


if __name__ == "__main__":
    exit_with_one_line(lambda: measure(pathlib.Path(sys.argv[1])))
