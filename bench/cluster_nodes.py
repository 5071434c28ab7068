# SPDX-License-Identifier: Apache-2.0
"""A process of many nodes for ``bench/cluster``: the agent's own code, over TLS, but no edge.

Reads a line of JSON, `Asked`, and joins the cluster. Writes a line of JSON for every batch of
settings that its nodes were told: their revision, and when, by the clock that all processes have.
"""

import asyncio
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from cloud_toa.cluster.agent import servers
from cloud_toa.cluster.agent.api import Api
from cloud_toa.cluster.agent.joining import Joining
from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.lines import Lines
from cloud_toa.cluster.agent.rates import EVERY, Samples
from cloud_toa.cluster.agent.talk import Talk
from cloud_toa.cluster.model.protocol import (
    Applied,
    Counts,
    Facts,
    Finding,
    Outcome,
    Sample,
    Settings,
    Status,
    Test,
)

_TOLD_EVERY = 0.2
_AT_A_TIME = 10
_FACTS = Facts(version="0.1.0", kernel="6.1.0-30-amd64", architecture="x86_64", hostname="edge")
_FINDING = "the kernel takes the eBPF programs that this host needs: Linux 6.1.0-30-amd64"


class Asked(msgspec.Struct, kw_only=True):
    """What this process is to be."""

    url: str
    ca: str
    token_file: str
    folder: str
    first: int
    count: int


class FakeNode:
    """A node whose edge takes any settings at once."""

    newest = 0

    def __init__(self, seen: list[tuple[int, float]]) -> None:
        self.changed = asyncio.Event()
        self._seen = seen
        self._revision = 0

    def want(self, settings: Settings) -> None:
        """They are in force."""
        self._seen.append((settings.revision, time.monotonic()))
        self._revision = settings.revision
        self.changed.set()

    async def status(self) -> Status:
        """As long as a real one: five services with three origins, and the doctor's report."""
        return Status(
            facts=_FACTS,
            time=time.time(),
            applied=Applied(revision=self._revision, wanted=self._revision, how="at once"),
            datapath="bpf",
            why="the kernel takes the eBPF programs",
            counters={f"counter_{number}": 1_000_000 + number for number in range(14)},
            services={f"service-{number}": Counts(connections=12345) for number in range(5)},
            origins={
                f"service-{number}": {f"192.0.2.{origin}:443": "UP" for origin in range(3)}
                for number in range(5)
            },
            cpu_percent=1.5,
            memory_bytes=100 << 20,
            findings=[Finding(what=_FINDING, state="ok") for _ in range(20)],
        )

    async def test(self, test: Test) -> Outcome:
        """It makes no connections."""
        return Outcome(client="", service=test.service, trouble="this node is a benchmark's")


async def _sample(samples: Samples) -> None:
    await asyncio.sleep(random.uniform(0, EVERY))
    while True:
        rates = {f"service-{number}": 100.0 for number in range(5)}
        rates[""] = 500.0
        sample = Sample(
            time=time.time(), connections=rates, bytes=rates, with_toa=500.0, without_toa=0.0
        )
        samples.add(sample)
        await asyncio.sleep(EVERY)


async def main(asked: Asked) -> None:
    """Be these nodes until this process is ended."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    named = servers.parse([asked.url], Path(asked.ca))
    gate = asyncio.Semaphore(_AT_A_TIME)
    seen: list[tuple[int, float]] = []

    async def be(number: int) -> None:
        kept = Kept(Path(asked.folder, f"{number}"))
        api, node, samples = Api(named), FakeNode(seen), Samples()
        joining = Joining(kept, Path(asked.token_file), f"edge-{number}", _FACTS)
        async with gate:
            await joining.identify(api)
        talk = Talk(api, joining, node, Lines(), samples)
        await asyncio.gather(talk.run(), _sample(samples))

    async with asyncio.TaskGroup() as tasks:
        for number in range(asked.first, asked.first + asked.count):
            tasks.create_task(be(number))
        while True:
            await asyncio.sleep(_TOLD_EVERY)
            if seen:
                told, seen[:] = list(seen), []
                _tell({"seen": told})


def _tell(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(main(msgspec.json.decode(sys.stdin.readline(), type=Asked)))
    except KeyboardInterrupt:
        sys.exit(130)
