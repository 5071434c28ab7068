# SPDX-License-Identifier: Apache-2.0
"""The two datapaths as an edge runs them, alike: start, stop, and tell how things stand."""

import logging
import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from cloud_toa.bpf import cgroup, edge, mounts
from cloud_toa.bpf.libbpf import Fd
from cloud_toa.bpf.lines import Lines
from cloud_toa.bpf.records import Record, Records
from cloud_toa.config import NoPort
from cloud_toa.doctor.table import Way
from cloud_toa.doctor.table import choose as choose_way
from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import counters, setup
from cloud_toa.nfqueue.workers import Shared, Workers
from cloud_toa.node.settings import RunSettings
from cloud_toa.node.state import State
from cloud_toa.node.surroundings import Surroundings
from cloud_toa.origins import Origins
from cloud_toa.ports import SIZE, PortTable

_log = logging.getLogger(__name__)

_LOOK = 5.0
"""Seconds between two looks at whether the programs are still those that were attached."""


class Sender(Protocol):
    """A datapath at work."""

    table: PortTable | None
    lines: Lines | None

    async def start(self, changed: Callable[[], None]) -> None:
        """Begin to write the option; ``changed`` is called when `shown` has changed.

        Raises:
            ToaError: it can't; nothing is left of the attempt.
        """

    async def stop(self) -> None:
        """Take away what was set up."""

    async def leave(self) -> None:
        """Let another take over what was set up."""

    def change(self, settings: RunSettings) -> None:
        """Write the option by other settings from now on.

        Raises:
            ToaError: it can't; the former ones hold.
        """

    def shown(self) -> dict[str, Any]:
        """What `edge status` shows beside the settings."""

    def told(self) -> list[Record] | None:
        """Connections told of since the last call; None where that is not known."""


class QueueSender:
    """Workers, and rules that bring them packets."""

    def __init__(self, settings: RunSettings, state: State) -> None:
        self.table: PortTable | None = None
        self.lines: Lines | None = None
        self._settings = _for_queue(settings)
        queues = settings.queues
        counting, memory = state.counters(counters.size(queues.count))
        table = -1
        kinds = (settings.option_type_v4, settings.option_type_v6)
        if settings.sock is not None:
            self.lines = _lines(kinds)
            if self.lines is not None:
                table = self.lines.ports.number
            else:
                table = os.memfd_create("cloud-toa-ports")
                os.ftruncate(table, SIZE)
            self.table = PortTable(mmap.mmap(table, SIZE))
        self._workers = Workers(queues, kinds, Shared(counting, table), memory)
        self._surroundings: Surroundings | None = None
        self._way = Way.NFT

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
            self._way = choose_way()
            install = self._installer(self._settings.origins)
            install()
        except BaseException:
            await self._workers.stop()
            raise
        _log.info("rules are set up, by %s", self._way.value)
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

    async def leave(self) -> None:
        """See `Sender`. Without workers, packets pass as they are, by the rules that stay."""
        if self._surroundings is not None:
            await self._surroundings.stop()
        await self._workers.stop()

    def change(self, settings: RunSettings) -> None:
        """See `Sender`. Workers live with the kinds that they were started with."""
        for name in ("queues", "option_type_v4", "option_type_v6", "auto_setup"):
            if getattr(settings, name) != getattr(self._settings, name):
                raise ToaError(f"{name} can't change while the queue is at work: start anew")
        _for_queue(settings)
        if self._surroundings is not None:
            self._surroundings.change(self._installer(settings.origins), settings.origins)
        self._settings = settings

    def _installer(self, origins: Origins) -> Callable[[], None]:
        return partial(
            setup.install,
            origins,
            self.table is not None,
            self._settings.queues,
            by_nft=self._way is Way.NFT,
            only_named=self._settings.only_named,
        )

    def shown(self) -> dict[str, Any]:
        """See `Sender`."""
        return {
            "workers": [
                {"queue": worker.queue, "pid": worker.pid, "restarts": worker.restarts}
                for worker in self._workers.all
            ]
        }

    def told(self) -> list[Record] | None:
        """See `Sender`. Workers count, and do not tell."""
        return []


class BpfSender:
    """The eBPF programs, attached for as long as the edge runs."""

    def __init__(self, settings: RunSettings, state: State) -> None:
        self.table: PortTable | None = None
        self.lines: Lines | None = None
        self._settings = settings
        if settings.auto_setup:
            mounts.require()
        self.cgroups = [cgroup.resolve(name) for name in settings.cgroups] or [cgroup.root()]
        self._ours = self.cgroups
        self._left = state.left_over().get("cgroups", [])
        self._records: Records | None = None
        self._look_again = 0.0

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
            ports = edge.ports_map()
            if ports is None:
                raise ToaError(
                    "the attached eBPF programs take no control socket: "
                    "cloud-toa edge attach --control, or run with -auto-setup"
                )
            self.table = PortTable(mmap.mmap(ports.number, SIZE))
            kinds = (self._settings.option_type_v4, self._settings.option_type_v6)
            self.lines = _lines(kinds, ports)

    async def stop(self) -> None:
        """See `Sender`."""
        if self._settings.auto_setup:
            edge.detach(self._ours)
            _log.info("eBPF programs are detached")

    async def leave(self) -> None:
        """See `Sender`. The kernel holds them."""

    def change(self, settings: RunSettings) -> None:
        """See `Sender`. The programs are exchanged without a gap."""
        if settings.auto_setup:
            edge.attach(self.cgroups, settings.edge)
        self._settings = settings
        self._look_again = 0.0

    def shown(self) -> dict[str, Any]:
        """See `Sender`."""
        return {"cgroups": [str(path) for path in self._ours]}

    def told(self) -> list[Record] | None:
        """See `Sender`. Whether it still tells is looked at now and then."""
        if not self._settings.tell:
            return []
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + _LOOK
            self._records = None
            with suppress(ToaError, OSError):
                self._records = edge.told()
        return None if self._records is None else self._records.read()

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


def _for_queue(settings: RunSettings) -> RunSettings:
    """The settings.

    Raises:
        ToaError: the queue can't do as they say.
    """
    if settings.no_port is not NoPort.CONNECTION:
        raise ToaError(
            f"no-port {settings.no_port.value} needs the eBPF datapath: in queue mode, a client "
            "without a port has the connection's own. Write no-port connection, or leave it out"
        )
    return settings


def _lines(kinds: tuple[int, int], ports: Fd | None = None) -> Lines | None:
    try:
        return Lines(kinds, ports)
    except ToaError as error:
        _log.warning(
            "the kernel can't execute lines of the control socket itself (%s): connections of "
            "peers that do not say hello:2 may go without their client",
            error,
        )
        return None


def _span(settings: RunSettings) -> str:
    return f"{settings.queues.first} to {settings.queues.last}"
