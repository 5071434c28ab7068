# SPDX-License-Identifier: Apache-2.0
"""What others change on the host while the queue datapath runs, and what follows from it.

- A device comes or has another MTU: the MSS that leaves room for the option changes.
- Other tables come or go: whether connections that are not to origins are tracked depends
  on them (`rules.bystanders`).
- Our table goes, as with ``nft flush ruleset``: connections under way depend on it, and it
  is set up again.

The kernel tells of devices and of nftables. It does not tell of iptables' own kernel
modules, whose tables are looked for now and then.

Source: rtnetlink(7), netlink(7); linux/netfilter/nfnetlink.h, Linux 3.14.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from cloud_toa.errors import ToaError
from cloud_toa.nfqueue import rules, setup
from cloud_toa.origins import Origins

_RTMGRP_LINK = 1
_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_NFNLGRP_NFTABLES = 7

_LOOK = 1.0
"""Seconds between looks at what nobody tells of."""
_PAUSE = 0.05
"""Seconds between looks at what we are told of: others may change their tables all the time."""

_log = logging.getLogger(__name__)


class Surroundings:
    """Followed from `start` to `stop`.

    Args:
        install: puts our table in place again.
        origins: the destinations that get the option.
    """

    def __init__(self, install: Callable[[], None], origins: Origins) -> None:
        self._install = install
        self._origins = origins
        self._changed = asyncio.Event()
        self._sockets: list[socket.socket] = []
        self._task: asyncio.Task[None] | None = None
        self._mtus: dict[str, int] = {}
        self._tables: set[str] = set()

    def start(self) -> None:
        """Begin; what has changed since the table was set up is seen as well."""
        loop = asyncio.get_running_loop()
        for protocol, groups in ((socket.NETLINK_ROUTE, _RTMGRP_LINK), (_NETLINK_NETFILTER, 0)):
            listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
            listening.setblocking(False)
            listening.bind((0, groups))
            self._sockets.append(listening)
            loop.add_reader(listening, self._hear, listening)
        self._sockets[1].setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
        self._changed.set()
        self._task = asyncio.create_task(self._follow())

    def change(self, install: Callable[[], None], origins: Origins) -> None:
        """Other destinations get the option from now on.

        Raises:
            ToaError: the table could not be replaced; the former one is at work.
        """
        install()
        self._install, self._origins = install, origins
        self._mtus, self._tables = {}, set()
        self._changed.set()

    async def stop(self) -> None:
        """Follow no more; before our own table is removed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def _hear(self, listening: socket.socket) -> None:
        while True:
            try:
                listening.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                continue  # messages were too many: what matters is that something has changed
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK):
                    await self._changed.wait()
            except TimeoutError:
                if setup.legacy_tables() <= self._tables:
                    continue
            self._changed.clear()
            try:
                self._adapt()
                await asyncio.sleep(_PAUSE)
            except ToaError as error:
                _log.error("%s", error)
                self._mtus, self._tables = {}, set()
                self._changed.set()
                await asyncio.sleep(_LOOK)

    def _adapt(self) -> None:
        tables = setup.tables()
        if rules.TABLE not in tables:
            _log.warning("another program has removed our table: setting it up again")
            self._install()
            self._mtus, self._tables = {}, set()
        # First, as others' tables may wait for it.
        others, before = tables - {rules.TABLE}, self._tables - {rules.TABLE}
        known = self._tables and bool(others) == bool(before)
        if not known and not self._origins.everywhere:
            setup.track_bystanders(self._origins, bool(others))
            _log.info(
                "connections that are not to origins are %s",
                f"tracked, as there is table {min(others)}" if others else "not tracked",
            )
        self._tables = tables | {rules.TABLE}
        mtus = setup.device_mtus()
        if mtus != self._mtus:
            setup.follow(mtus)
            self._mtus = mtus
