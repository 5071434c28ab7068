# SPDX-License-Identifier: Apache-2.0
"""Keeps what nodes say of themselves, many of them in one change of the store.

Who says something waits until it is kept.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from cloud_toa.cluster.model import nodes
from cloud_toa.cluster.model.protocol import Status
from cloud_toa.cluster.model.samples import Totals
from cloud_toa.cluster.store import Put, UnavailableError
from cloud_toa.cluster.store.mirror import Mirror
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)
_MOST = 120
"""Changes in one call; a store takes 128."""
_MOST_BYTES = 800_000
"""Of values in one call; a store takes a megabyte."""
_GATHER_SECONDS = 0.02
_TOTALS_SECONDS = 10.0

_Waiting = tuple[str, list[Put], asyncio.Future[None]]


class StatusWriter:
    """One for each process."""

    def __init__(self, store: Mirror, totals: Totals) -> None:
        self._store = store
        self._totals = totals
        self._waiting: list[_Waiting] = []
        self._woken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._write_statuses()),
            asyncio.create_task(self._write_totals()),
        ]

    async def keep(self, id_: str, status: Status) -> None:
        """Keep a node's status.

        Raises:
            UnavailableError: the store could not.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((id_, nodes.heard(id_, status), kept))
        self._woken.set()
        await kept

    async def stop(self) -> None:
        """Keep what waits, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._waiting:
            await self._write(self._next())
        with suppress(ToaError):
            await self._keep_totals()

    async def _write_statuses(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            self._woken.clear()
            while self._waiting:
                await self._write(self._next())

    def _next(self) -> list[_Waiting]:
        """The oldest ones, as many as one change may have, and of each node one."""
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        ids: set[str] = set()
        size = changes = 0
        for waiting in self._waiting:
            id_, puts, _ = waiting
            more = sum(len(each.value) for each in puts)
            room = changes + len(puts) <= _MOST and size + more <= _MOST_BYTES
            if id_ in ids or (taken and not room):
                left.append(waiting)
                continue
            taken.append(waiting)
            ids.add(id_)
            size += more
            changes += len(puts)
        self._waiting = left
        return taken

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        # A node may have been removed since it was let in: nothing must be left of it.
        puts = [
            put
            for id_, changes, _ in batch
            if await self._store.get(f"nodes/{id_}")
            for put in changes
        ]
        try:
            if puts:
                await self._store.change(*puts)
        except Exception as error:  # theirs, each of them
            for _, _, kept in batch:
                if not kept.done():
                    kept.set_exception(error)
            return
        for _, _, kept in batch:
            if not kept.done():
                kept.set_result(None)

    async def _write_totals(self) -> None:
        while True:
            await asyncio.sleep(_TOTALS_SECONDS)
            try:
                await self._keep_totals()
            except ToaError as error:
                _log.warning("what nodes told for the charts is not kept yet: %s", error)

    async def _keep_totals(self) -> None:
        puts = self._totals.changes()
        # Each by itself: one that can't be kept is in no other one's way.
        results = await asyncio.gather(*map(self._keep_total, puts), return_exceptions=True)
        errors = [each for each in results if isinstance(each, BaseException)]
        for error in errors:
            if not isinstance(error, UnavailableError):
                _log.error("five minutes of what nodes told for the charts are lost: %s", error)
        for error in errors:
            if isinstance(error, UnavailableError):
                raise error

    async def _keep_total(self, put: Put) -> None:
        try:
            await self._store.store.change(put)
        except (UnavailableError, asyncio.CancelledError):
            self._totals.again(put.key)
            raise
