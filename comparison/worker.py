"""One measurement in a fresh process: python -m comparison.worker REQUEST, a JSON object."""

import json
import pathlib
import sys
import time

import numpy as np
import psutil

from common.errors import exit_with_one_line
from comparison import work
from comparison.contenders import CONTENDERS
from runtime.clock import Ledger


def measure(folder: pathlib.Path, contender: str, device: str, job: work.Job, result: pathlib.Path) -> None:
    """Lets a contender do the job on the examples in `folder`; leaves its weights and seconds in the file `result`."""
    ledger = Ledger()
    entry = CONTENDERS[contender]
    peer = entry.load()(work.load(folder, job), device, **entry.options)
    ledger.barrier = peer.barrier
    ledger.barrier()
    start = time.time() - psutil.Process().create_time()
    with ledger("compile"):
        peer.compile()
    with ledger("train"):
        peer.train()
    with ledger("evaluate"):
        num_correct = peer.num_correct()
    W, b = peer.weights()
    np.savez(result, W=W, b=b, num_correct=num_correct, seconds=json.dumps(ledger.parts | {"start": start}))


def main() -> None:
    """Reads the request, measures."""
    request = json.loads(sys.argv[1])
    job = work.Job(**request["job"])
    measure(pathlib.Path(request["folder"]), request["contender"], request["device"], job, request["result"])


if __name__ == "__main__":
    exit_with_one_line(main)
