# SPDX-License-Identifier: Apache-2.0
"""Keeps what nodes' run logs say, within bounds for each node."""

import time
from collections.abc import Sequence

from cloud_toa.cluster.api.problem import refuse
from cloud_toa.cluster.model import logs
from cloud_toa.cluster.model.protocol import Line
from cloud_toa.cluster.store.mirror import Mirror

_BYTES_PER_SECOND = 20_000.0
_BURST = 2_000_000.0
"""So much a node may say at once; a call has a megabyte at most."""
_TRIM_AFTER = 100
"""Calls of a node."""


class LogKeeper:
    """One for each process."""

    def __init__(self, store: Mirror) -> None:
        self._store = store
        self._calls: dict[str, int] = {}
        self._room: dict[str, tuple[float, float]] = {}

    async def keep(self, id_: str, lines: Sequence[Line], ahead: float) -> None:
        """Keep lines of a node.

        Raises:
            ProblemError: 429: it says too much.
        """
        put = logs.kept(id_, lines, ahead)
        self._spend(id_, len(put.value))
        await self._store.store.change(put)
        calls = self._calls[id_] = self._calls.get(id_, 0) + 1
        if calls % _TRIM_AFTER == 0:
            await logs.trim(self._store, id_)

    def _spend(self, id_: str, size: int) -> None:
        now = time.monotonic()
        room, then = self._room.get(id_, (_BURST, now))
        room = min(_BURST, room + (now - then) * _BYTES_PER_SECOND)
        if room < size:
            wait = int((size - room) / _BYTES_PER_SECOND) + 1
            raise refuse(429, "too much to log: send less", Retry_After=str(wait))
        self._room[id_] = (room - size, now)
