# SPDX-License-Identifier: Apache-2.0
"""The edge of a node, by a cluster's settings: started, started anew, and looked at."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress

from cloud_toa.cluster.agent import commands
from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.rates import EVERY, Reading, Samples, between
from cloud_toa.cluster.agent.source import ClusterSource
from cloud_toa.cluster.agent.traffic import Passed, Traffic
from cloud_toa.cluster.agent.usage import Usage
from cloud_toa.cluster.model.protocol import Facts, Finding, Outcome, Settings, Status, Test
from cloud_toa.errors import ToaError
from cloud_toa.node import status
from cloud_toa.node.edge_run import Edge

_log = logging.getLogger(__name__)

_HOUR = 3600.0
_SOON = 60.0
"""Seconds until the doctor is asked again, who did not answer."""


class EdgeNode:
    """A `talk.Node`: this host."""

    def __init__(self, kept: Kept, facts: Facts, samples: Samples) -> None:
        self.changed = asyncio.Event()
        self.source = ClusterSource(kept, self.changed.set, self._start_anew)
        self.newest = self.source.newest
        self._facts, self._samples = facts, samples
        self._edge: Edge | None = None
        self._asked: signal.Signals | None = None
        self._traffic, self._usage = Traffic(), Usage()
        self._findings: list[Finding] = []
        self._carried: int | None = None
        """What `with_toa` was when the sender's counters could be read last."""

    async def run(self) -> None:
        """Be the edge that is wanted, until it is asked to end."""
        while self._asked is None:
            if not self.source.has_some:
                _log.info("there are no settings yet: waiting for the cluster's")
                await self.source.changed.wait()
                continue
            self.source.changed.clear()
            try:
                await self._live()
            except ToaError as error:
                self._edge = None
                if not self.source.failed(error):
                    _log.error("the edge can't start: %s", error)
                    await self.source.changed.wait()
                else:
                    _log.error("not applied, the edge starts by other settings: %s", error)

    def ask(self, by: signal.Signals) -> None:
        """End; see `Edge.ask`."""
        self._asked = by
        self.source.changed.set()
        if self._edge is not None:
            self._edge.ask(by)

    async def _live(self) -> None:
        async with AsyncExitStack() as undo:
            self._edge = Edge(self.source, undo)
            self.source.applied(await self._edge.start())
            await self._edge.serve()
        self._edge = None

    def _start_anew(self) -> None:
        assert self._edge is not None
        self._edge.ask(signal.SIGUSR2)

    def want(self, settings: Settings) -> None:
        """See `talk.Node`."""
        self.source.want(settings)

    async def test(self, test: Test) -> Outcome:
        """See `talk.Node`."""
        return await commands.test(test)

    async def status(self) -> Status:
        """See `talk.Node`."""
        edge, passed, counted = self._edge, Passed(), dict[str, int]()
        pids = [os.getpid()]
        if edge is not None:
            counted = await _counted(edge)
            with suppress(ToaError):  # it is about to be started again
                passed = await self._passed(edge)
            pids += [each["pid"] for each in edge.services.sender.shown().get("workers", [])]
            with suppress(OSError):
                pids += edge.services.balancer_processes
        cpu, memory = self._usage.read(pids)
        return Status(
            facts=self._facts,
            time=time.time(),
            applied=self.source.result,
            drained=edge.services.drained if edge else self.source.drained,
            datapath=edge.chosen.datapath if edge else "",
            why=edge.chosen.why if edge else "",
            counters=counted,
            services=passed.services,
            origins=passed.origins,
            cpu_percent=cpu,
            memory_bytes=memory,
            findings=self._findings,
        )

    async def sample(self) -> None:
        """Take a sample every ten seconds, for ever."""
        before: Reading | None = None
        while True:
            if self._edge is not None:
                # Where it can't be read, the next sample is over a longer time.
                with suppress(ToaError):
                    now = await self._reading(self._edge)
                    if before is not None:
                        self._samples.add(between(before, now))
                    before = now
            await asyncio.sleep(EVERY)

    async def examine(self) -> None:
        """Ask the doctor every hour, for ever."""
        while True:
            try:
                self._findings = await commands.findings()
            except ToaError as error:
                _log.warning("the doctor gave no report: %s", error)
                await asyncio.sleep(_SOON)
            else:
                self.changed.set()
                await asyncio.sleep(_HOUR)

    async def _passed(self, edge: Edge) -> Passed:
        return await self._traffic.read(edge.services.balancer.places.master)

    async def _reading(self, edge: Edge) -> Reading:
        passed = await self._passed(edge)
        if counted := await _counted(edge):
            self._carried = with_toa(edge.chosen.datapath, counted)
        now = time.time(), time.monotonic()
        return Reading(*now, passed.services, passed.to_origins, self._carried)


async def _counted(edge: Edge) -> dict[str, int]:
    # Elsewhere than in the loop, as it asks the kernel.
    return await asyncio.to_thread(_counters, edge.chosen.datapath)


def with_toa(datapath: str, counters: Mapping[str, int]) -> int:
    """Connections that carried the option, as far as the sender's counters tell. Pure.

    The queue counts packets: SYN, ACK and the first data of each.
    """
    if datapath == "queue":
        return -(-counters.get("written", 0) // 3)
    return counters.get("connections", 0) - counters.get("no_room", 0)


def _counters(datapath: str) -> dict[str, int]:
    with suppress(ToaError):
        found = (
            status.bpf_counters() if datapath == "bpf" else (status.queue() or {}).get("counters")
        )
        return dict(found or {})
    return {}
