"""The workers of a run: their addresses in TF_CONFIG, and whether they answer.

TensorFlow is not imported here, because the flags are checked before it is.
"""

import contextlib
import json
import os
import socket
import urllib.parse
from collections.abc import Iterable

import flags
from common.errors import InputError

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def workers() -> tuple[list[str], str]:
    """Returns the addresses of all workers in TF_CONFIG, the chief first, and that of this process.

    Raises InputError if TF_CONFIG is wrong.
    """
    text = os.environ.get("TF_CONFIG", "none")
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        addresses = [*jobs.get("chief", [])[:1], *jobs.get("worker", [])]
        own = jobs[task["type"]][task["index"]]
        few = len(set(map(host_and_port, addresses))) < sum(map(len, jobs.values()))
        if few or task["index"] < 0:
            raise ValueError("an address twice, two chiefs, no such worker, or none at all")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"--strategy=multi_worker: TF_CONFIG must be like {EXAMPLE}; found {text} ({error!r})"
        ) from None
    return addresses, own


def prepare(own: str) -> None:
    """Lets TensorFlow connect to the workers directly, even if a proxy is set.

    Raises OSError, which names the port, if this worker cannot listen at its address `own`.
    """
    os.environ["grpc_proxy"] = ""  # noqa: SIM112 - gRPC's own variable, which goes first
    _, port = host_and_port(own)
    socket.create_server(("", port)).close()


def silent(addresses: Iterable[str]) -> list[str]:
    """Returns the addresses of the workers that do not answer now."""
    return [address for address in addresses if not _answers(address)]


def host_and_port(address: str) -> tuple[str, int]:
    """Returns both parts of host:port or [IPv6]:port; raises ValueError on anything else."""
    parts = urllib.parse.urlsplit(f"//{address}")
    if not parts.hostname or not parts.port:
        raise ValueError(f"{address!r} is not host:port")
    parts.hostname.encode("idna")  # raises UnicodeError, as connecting would
    return parts.hostname, parts.port


def _answers(address: str) -> bool:
    """Says whether a worker's TensorFlow answers within a second.

    Its server sends first. A process that hangs sends nothing, although its system accepts the
    connection.
    """
    with (
        contextlib.suppress(OSError),
        socket.create_connection(host_and_port(address), timeout=1) as connection,
    ):
        return bool(connection.recv(1))
    return False


def checked(config: flags.Config) -> flags.Config:
    """Returns the flags with the mode that `auto` stands for.

    Raises InputError if flags contradict each other.
    """
    if config.strategy != "mirrored" and config.replicas:
        raise InputError(
            f"--replicas={config.replicas}: needs --strategy=mirrored; "
            "a worker of --strategy=multi_worker uses all its GPUs, or its CPU"
        )
    if config.strategy == "none":
        return config.replace(mode="xla") if config.mode == "auto" else config
    if config.mode in ("eager", "xla"):
        raise InputError(
            f"--mode={config.mode}: --strategy={config.strategy} runs only in mode graph; "
            "leave --mode out"
        )
    if config.strategy == "multi_worker":
        # TensorFlow would log a lost worker too; this program prints one line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        workers()
    return config.replace(mode="graph")
