"""The workers of a run: who they are, by TF_CONFIG, and whether they are there. TensorFlow is not imported here."""

import dataclasses
import json
import os
import socket
import sys
import time

import flags
from common.errors import InputError, RunError

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """TF_CONFIG: the addresses of all workers, the chief first, and which of them this process is."""

    addresses: tuple[str, ...]
    index: int
    has_chief: bool = False  # as a job of its own; else the first worker is the chief

    @property
    def jobs(self) -> dict[str, int]:
        """Returns the number of tasks by job, the leading job first."""
        rest = len(self.addresses) - self.has_chief
        return {
            job: count for job, count in (("chief", int(self.has_chief)), ("worker", rest)) if count
        }

    @classmethod
    def from_environment(cls) -> "Cluster":
        """Reads TF_CONFIG; raises InputError naming what is wrong with it."""
        text = os.environ.get("TF_CONFIG", "")
        try:
            config = json.loads(text)
            jobs, task = config["cluster"], config["task"]
            if unknown := set(jobs) - {"chief", "worker"}:
                raise ValueError(f"job {min(unknown)!r} is neither chief nor worker")
            addresses = tuple(
                address for job in ("chief", "worker") for address in jobs.get(job, [])
            )
            kind, index = task["type"], task["index"]
            if type(index) is not int or not 0 <= index < len(jobs[kind]):
                raise ValueError(f"there is no {kind} {index!r} in the cluster")
            index += len(jobs.get("chief", [])) if kind == "worker" else 0
            for address in addresses:
                _host_and_port(address)
            if len(set(addresses)) < len(addresses) or len(jobs.get("chief", [])) > 1:
                raise ValueError("an address stands twice, or there are two chiefs")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            found = f"{type(error).__name__}: {error}" if text else "it is not set"
            raise InputError(
                f"--strategy=multi_worker: TF_CONFIG must be like {EXAMPLE}; {found}"
            ) from None
        return cls(addresses, index, bool(jobs.get("chief")))

    def silent(self) -> list[str]:
        """Returns the addresses of other workers at which nobody answers."""
        return [
            address
            for i, address in enumerate(self.addresses)
            if i != self.index and not _answers(address)
        ]

    def gather(self, timeout: int) -> None:
        """Returns once every worker answers at its address; raises RunError naming those that do not come in time."""
        own = self.addresses[self.index]
        deadline = time.monotonic() + timeout
        try:
            listener = socket.create_server(
                ("", _host_and_port(own)[1]), backlog=2 * len(self.addresses)
            )
        except OSError as error:
            raise InputError(
                f"TF_CONFIG: cannot listen at {own}: {error.strerror}; take another port"
            ) from None
        with listener:
            silent = self.silent()
            while silent and time.monotonic() < deadline:
                time.sleep(0.1)
                silent = [address for address in silent if not _answers(address)]
        if silent:
            raise RunError(
                f"--timeout={timeout}: no worker came in {timeout} s at {', '.join(silent)}"
            )


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not host:port")
    return host, int(port)


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=1).close()
    except OSError:
        return False
    return True


def lost(timeout: float, silent: list[str]) -> str:
    """Returns the line of a worker that waits for others no longer."""
    return f"error: --timeout={timeout}: waited {timeout} s for other workers; silent: {', '.join(silent) or 'none'}"


def mourn(timeout: float) -> None:
    """Says, on behalf of a worker that was ended because it waited too long, whom it waited for."""
    print(lost(timeout, Cluster.from_environment().silent()), file=sys.stderr, flush=True)


def settled(config: flags.Config) -> flags.Config:
    """Returns the flags as this process must use them: with a mode, and only the chief with a record.

    Raises InputError if they do not go together.
    """
    if config.strategy != "mirrored" and config.replicas:
        cure = "needs --strategy=mirrored"
        if config.strategy == "multi_worker":
            cure = "a worker takes all its GPUs or its CPU; start more workers"
        raise InputError(f"--replicas={config.replicas}: {cure}")
    if config.strategy == "none":
        return config.replace(mode="xla") if config.mode == "auto" else config
    if config.mode in ("eager", "xla"):
        raise InputError(
            f"--mode={config.mode}: --strategy={config.strategy} has none; leave it out, or take graph"
        )
    if config.strategy == "multi_worker":
        record = None if Cluster.from_environment().index else config.record
        config = config.replace(record=record)
    return config.replace(mode="graph")
