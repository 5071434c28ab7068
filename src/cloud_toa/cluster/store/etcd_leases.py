# SPDX-License-Identifier: Apache-2.0
"""Leases, on which etcd's expiring keys hang.

A thousand nodes put a key that expires every 15 s each. A lease for each put would be 67 a second,
of which those of week-long keys would pile up to millions. So keys that expire at about the same
time share one: times are rounded up to steps of a 16th to a 32nd of the time a key has. Nobody
keeps leases alive or takes them back: each ends with its keys, also after all of us are gone.
"""

import asyncio
import math
import time

from cloud_toa.cluster.store.etcd_gateway import Gateway
from cloud_toa.cluster.store.etcd_messages import Lease

KEYS = 1000
"""On one lease at most: etcd deletes them at once, and everybody waits for that."""


class Leases:
    """Those of this process."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._shared: dict[tuple[float, int], _Shared] = {}

    async def of(self, seconds: float, keys: int = 1) -> int:
        """A lease that lasts so long at least, for so many keys.

        Raises:
            UnavailableError: there is none to be had.
        """
        now = time.monotonic()
        step = 2.0 ** math.floor(math.log2(max(seconds / 16, 1)))
        end = math.ceil((now + seconds) / step)
        for old in [key for key in self._shared if key[0] * key[1] < now]:
            del self._shared[old]
        shared = self._shared.get((step, end))
        if shared is None or shared.keys + keys > KEYS:
            seconds_left = math.ceil(step * end - now)
            shared = _Shared(asyncio.create_task(self._granted(seconds_left)))
            self._shared[step, end] = shared
        shared.keys += keys
        try:
            return await asyncio.shield(shared.lease)
        except BaseException:
            if shared.lease.done() and self._shared.get((step, end)) is shared:
                del self._shared[step, end]
            raise

    def forget(self) -> None:
        """They are not there any more: an etcd that was restored has lost them, for instance."""
        self._shared.clear()

    async def _granted(self, seconds: int) -> int:
        # May be asked for twice: one that nobody knows ends by itself.
        answer = await self._gateway.change("/lease/grant", {"TTL": seconds}, Lease, again=True)
        return answer.ID


class _Shared:
    def __init__(self, lease: asyncio.Task[int]) -> None:
        self.lease = lease
        self.keys = 0
