# SPDX-License-Identifier: Apache-2.0
"""What HAProxy has counted since the node's process started, over all of its workers.

Each reload makes a new worker, which counts from zero; connections go on in the old ones, which
go on to count. What a worker did after it was asked last, and before its end, is not known.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloud_toa.balancer import runtime, traffic
from cloud_toa.balancer.traffic import Service
from cloud_toa.cluster.model.protocol import Counts
from cloud_toa.errors import ToaError


@dataclass(frozen=True)
class Passed:
    """Counts by service; origins' states by service; and connections to origins."""

    services: dict[str, Counts] = field(default_factory=dict)
    origins: dict[str, dict[str, str]] = field(default_factory=dict)
    to_origins: int = 0


class Traffic:
    """Of one HAProxy, and of those before it."""

    def __init__(self) -> None:
        self._workers: dict[int, list[Service]] = {}
        self._ended = Passed()
        # Of two looks together, one would take the other's new worker for one that has ended.
        self._looking = asyncio.Lock()

    async def read(self, master: Path) -> Passed:
        """Ask each worker by way of the master, at this socket.

        Raises:
            ToaError: it does not answer.
        """
        async with self._looking:
            return await self._read(master)

    async def _read(self, master: Path) -> Passed:
        now = await runtime.processes(master)
        alive = [*([now.worker] if now.worker else []), *now.old]
        for worker in alive:
            with suppress(ToaError):  # it has ended just now
                said = traffic.by_service(await runtime.ask(master, f"@!{worker} show stat"))
                self._workers[worker] = said or self._workers.get(worker, [])
        for worker in set(self._workers).difference(alive):
            self._ended = plus(self._ended, self._workers.pop(worker), alive=False)
        passed = self._ended
        for services in self._workers.values():
            passed = plus(passed, services, alive=True)
        latest = self._workers.get(now.worker, []) if now.worker else []
        states = {
            each.name: {origin.name: origin.state for origin in each.origins} for each in latest
        }
        return replace(passed, origins=states)


def plus(passed: Passed, services: Iterable[Service], *, alive: bool) -> Passed:
    """Counts with a worker's added to them; it has connections now if it is alive. Pure."""
    counts = dict(passed.services)
    to_origins = passed.to_origins
    for service in services:
        was = counts.get(service.name, Counts())
        counts[service.name] = Counts(
            connections=was.connections + service.total,
            current=was.current + (service.connections if alive else 0),
            bytes_from_clients=was.bytes_from_clients + service.bytes_from_clients,
            bytes_to_clients=was.bytes_to_clients + service.bytes_to_clients,
            refused=was.refused + service.refused,
        )
        to_origins += sum(origin.total for origin in service.origins)
    return replace(passed, services=counts, to_origins=to_origins)
