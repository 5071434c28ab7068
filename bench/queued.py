# SPDX-License-Identifier: Apache-2.0
"""The queue datapath for the benchmarks: ``cloud-toa run`` on the edge, as it is or as a reference.

The reference is what this replaces: every packet to the origin goes through a worker.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edge_node import started, status

from cloud_toa.isolation import Namespace

# What rules.py marks connections with: here without asking whether the origin has answered.
_EVERY = "ct mark & 0xfff00000 == 0x70a00000 goto to_queue"


@dataclass(frozen=True)
class Running:
    """An edge that runs; ``pids`` are all its processes."""

    edge: Namespace
    pids: tuple[int, ...]

    def queued(self) -> int:
        """How many packets went to a queue since it began."""
        return int(status(self.edge)["counters"]["queued"])


@contextmanager
def running(
    edge: Namespace, origins: Sequence[str], queues: int, *, every: bool
) -> Iterator[Running]:
    """Run it with this many queues; ``every`` packet goes through one, or only what must.

    Raises:
        ToaError: it did not start.
    """
    words = ["run", "-datapath=queue", "-auto-setup", f"-max-queue-id={queues}"]
    with started(edge, *words, *(f"-origin={origin}" for origin in origins)) as node:
        if every:
            edge.run("nft", "add", "rule", "inet", "cloud_toa", "output", *_EVERY.split())
        workers = (worker["pid"] for worker in status(edge)["workers"])
        yield Running(edge, (node, *workers))
