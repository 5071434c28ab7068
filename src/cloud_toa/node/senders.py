# SPDX-License-Identifier: Apache-2.0
"""The two datapaths as an edge runs them, alike: start, stop, and tell how things stand."""

import logging
import mmap
import os
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from cloud_toa.bpf import cgroup, edge
from cloud_toa.doctor.table import Way
from cloud_toa.doctor.table import choose as choose_way
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import counters, setup
from cloud_toa.nfqueue.workers import Shared, Workers
from cloud_toa.node.settings import RunSettings
from cloud_toa.node.state import State
from cloud_toa.node.surroundings import Surroundings
from cloud_toa.ports import SIZE, PortTable

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """A datapath at work."""

    table: PortTable | None

    async def start(self, changed: Callable[[], None]) -> None:
        """Begin to write the option; ``changed`` is called when `shown` has changed.

        Raises:
            ToaError: it can't; nothing is left of the attempt.
        """

    async def stop(self) -> None:
        """Take away what was set up."""

    def shown(self) -> dict[str, Any]:
        """What `edge status` shows beside the settings."""


class QueueSender:
    """Workers, and rules that bring them packets."""

    def __init__(self, settings: RunSettings, state: State) -> None:
        self.table: PortTable | None = None
        self._settings = settings
        queues = settings.queues
        counting, memory = state.counters(counters.size(queues.count))
        table = -1
        if settings.sock is not None:
            table = os.memfd_create("cloud-toa-ports")
            os.ftruncate(table, SIZE)
            self.table = PortTable(mmap.mmap(table, SIZE))
        kinds = (settings.option_type_v4, settings.option_type_v6)
        self._workers = Workers(queues, kinds, Shared(counting, table), memory)
        self._surroundings: Surroundings | None = None

    async def start(self, changed: Callable[[], None]) -> None:
        """See `Sender`."""
        setup.require(self._settings.auto_setup)
        await self._workers.start(changed)
        pids = " ".join(str(worker.pid) for worker in self._workers.all)
        _log.info("workers for queues %s: processes %s", _span(self._settings), pids)
        if not self._settings.auto_setup:
            if not setup.is_there():
                _log.warning(
                    "nothing is queued: no rules are set up. "
                    "Start with -auto-setup, or set up what cloud-toa run -print-rules shows"
                )
            return
        try:
            way = choose_way()
            install = partial(
                setup.install,
                self._settings.origins,
                self.table is not None,
                self._settings.queues,
                by_nft=way is Way.NFT,
            )
            install()
        except BaseException:
            await self._workers.stop()
            raise
        _log.info("rules are set up, by %s", way.value)
        self._surroundings = Surroundings(install, self._settings.origins)
        self._surroundings.start()

    async def stop(self) -> None:
        """See `Sender`."""
        if self._surroundings is not None:
            await self._surroundings.stop()
        if self._settings.auto_setup:
            setup.remove()
            _log.info("rules are removed")
        await self._workers.drained()
        await self._workers.stop()

    def shown(self) -> dict[str, Any]:
        """See `Sender`."""
        return {
            "workers": [
                {"queue": worker.queue, "pid": worker.pid, "restarts": worker.restarts}
                for worker in self._workers.all
            ]
        }


class BpfSender:
    """The eBPF programs, attached for as long as the edge runs."""

    def __init__(self, settings: RunSettings, state: State) -> None:
        self.table: PortTable | None = None
        self._settings = settings
        self.cgroups = [cgroup.resolve(name) for name in settings.cgroups] or [cgroup.root()]
        self._ours = self.cgroups
        self._left = state.left_over().get("cgroups", [])

    async def start(self, changed: Callable[[], None]) -> None:
        """See `Sender`."""
        del changed
        if self._settings.auto_setup:
            self._leave_to_others()
            edge.attach(self.cgroups, self._settings.edge)
            _log.info("eBPF programs are attached to %s", " ".join(map(str, self.cgroups)))
        else:
            self._require_attached()
        if self._settings.sock is not None:
            memory = edge.ports()
            if memory is None:
                raise ToaError(
                    "the attached eBPF programs take no control socket: "
                    "cloud-toa edge attach --control, or run with -auto-setup"
                )
            self.table = PortTable(memory)

    async def stop(self) -> None:
        """See `Sender`."""
        if self._settings.auto_setup:
            edge.detach(self._ours)
            _log.info("eBPF programs are detached")

    def shown(self) -> dict[str, Any]:
        """See `Sender`."""
        return {"cgroups": [str(path) for path in self._ours]}

    def _leave_to_others(self) -> None:
        """What was attached by hand before, and not by a run that was killed, stays at the end."""
        before = edge.status()
        by_hand = {
            path for path in (before.cgroups if before else ()) if str(path) not in self._left
        }
        self._ours = [path for path in self.cgroups if path not in by_hand]
        for path in by_hand.intersection(self.cgroups):
            _log.warning("%s was attached by hand: it gets these settings, and stays so", path)

    def _require_attached(self) -> None:
        if edge.status() is None:
            raise ToaError(
                "the eBPF sender is not attached, and without -auto-setup nothing is touched: "
                "add -auto-setup, or do what cloud-toa run -print-rules shows"
            )


def _span(settings: RunSettings) -> str:
    return f"{settings.queues.first} to {settings.queues.last}"
