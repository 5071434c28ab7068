# SPDX-License-Identifier: Apache-2.0
"""The queue datapath for the benchmarks: ``cloud-toa run`` on the edge, as it is or as a reference.

The reference is what this replaces: every packet to the origin goes through a worker.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cloud_toa.demo.isolation import Namespace
from cloud_toa.demo.lab import stop
from cloud_toa.errors import ToaError

_CLI = (sys.executable, "-m", "cloud_toa")
# What rules.py marks connections with: here without asking whether the origin has answered.
_EVERY = "ct mark & 0xfff00000 == 0x70a00000 goto to_queue"


@dataclass(frozen=True)
class Running:
    """An edge that runs; ``pids`` are all its processes."""

    edge: Namespace
    pids: tuple[int, ...]

    def queued(self) -> int:
        """How many packets went to a queue since it began."""
        shown = json.loads(self.edge.run(*_CLI, "edge", "status", "--json"))
        return int(shown["counters"]["queued"])


@contextmanager
def running(edge: Namespace, origin: str, queues: int, every: bool) -> Iterator[Running]:
    """Run it with this many queues; ``every`` packet goes through one, or only what must.

    Raises:
        ToaError: it did not start.
    """
    command = [*_CLI, "run", "-datapath=queue", "-auto-setup", f"-origin={origin}"]
    process = edge.popen([*command, f"-max-queue-id={queues}"], stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        said = b""
        while not said.endswith(b"[TOA]ready\n"):
            line = process.stderr.readline()
            if not line:
                raise ToaError(f"cloud-toa run did not start: {said.decode()}")
            said += line
        if every:
            edge.run("nft", "add", "rule", "inet", "cloud_toa", "output", *_EVERY.split())
        shown = json.loads(edge.run(*_CLI, "edge", "status", "--json"))
        yield Running(edge, (process.pid, *(worker["pid"] for worker in shown["workers"])))
    finally:
        stop(process)
        process.stderr.close()
