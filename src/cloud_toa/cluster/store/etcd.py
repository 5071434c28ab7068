# SPDX-License-Identifier: Apache-2.0
"""A store in etcd 3, for API servers on several machines. Its revisions are ours.

With most of its members gone, etcd keeps nothing more, and so `EtcdStore.change` raises. Reads go
on: they answer what the member in reach has, which may be old. Watches wait, and go on without
loss when the members are back.

Nothing else in an etcd limits how far its history grows; so changes are forgotten after a while,
as Kubernetes does it. That is for the whole etcd, not only for our keys.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any

from cloud_toa.cluster.store import (
    Change,
    CompactedError,
    ConflictError,
    Delete,
    Entry,
    Event,
    Put,
    UnavailableError,
)
from cloud_toa.cluster.store.etcd_errors import LeaseGoneError, LostError
from cloud_toa.cluster.store.etcd_gateway import Gateway
from cloud_toa.cluster.store.etcd_leases import Leases
from cloud_toa.cluster.store.etcd_messages import Lease, Nothing, Range, Txn, WatchEvent
from cloud_toa.cluster.store.etcd_url import Address
from cloud_toa.cluster.store.limits import batches, check, not_empty

ROOT = "/cloud-toa/"
"""All our keys begin so."""
HISTORY_SECONDS = 900.0
"""Of etcd's changes. A quiet watch is told every 10 minutes how far it is, and could not go on
elsewhere if history were shorter than that."""
_COMPACTING_SECONDS = 60.0
_PATIENCE_SECONDS = 2.5
"""So long a read waits for a leader (an election takes one or two) before it takes old values."""
_PAUSE_SECONDS = 0.2
_PAGE = 500


class EtcdStore:
    """See `Store`. It belongs to the loop in which it was made."""

    def __init__(self, address: Address) -> None:
        self._gateway = Gateway(address)
        self._leases = Leases(self._gateway)
        self._patience = _PATIENCE_SECONDS
        self._closed = False
        self._compacting = asyncio.create_task(self._compact())

    async def get(self, key: str) -> Entry | None:
        """See `Store`; without a majority it may be old."""
        answer = await self._range({"key": _bytes(key)})
        return _entry(answer, 0) if answer.kvs else None

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, backwards: bool = False
    ) -> tuple[list[Entry], int]:
        """See `Store`; without a majority it may be old."""
        begin, end = _bytes(prefix), _end(prefix)
        if after and backwards:
            end = min(end, _bytes(after))
        elif after:
            begin = max(begin, _bytes(after) + b"\0")
        if begin >= end or limit == 0:  # etcd would take it for something else
            begin, end, limit = _bytes(""), _bytes("") + b"\0", 1
        body: dict[str, Any] = {"key": begin, "range_end": end, "limit": limit or 0}
        if backwards:
            body |= {"sort_order": "DESCEND", "sort_target": "KEY"}
        answer = await self._range(body)
        return [_entry(answer, i) for i in range(len(answer.kvs))], answer.header.revision

    async def change(self, *changes: Change) -> int:
        """See `Store`."""
        check(changes)
        try:
            answer = await self._change(changes)
        except LeaseGoneError:
            self._leases.forget()
            try:
                answer = await self._change(changes)
            except LeaseGoneError:
                raise UnavailableError(
                    "etcd forgets leases at once, and nothing was changed: see its log"
                ) from None
        if not answer.succeeded:
            raise ConflictError(
                f"{_changed(changes, answer)} was changed meanwhile: "
                "read it again, and repeat what you did"
            )
        return answer.header.revision

    async def watch(self, prefix: str, since: int) -> AsyncIterator[Sequence[Event]]:
        """See `Store`. While etcd does not answer, it waits."""
        while not self._closed:
            request = {
                "key": _bytes(prefix),
                "range_end": _end(prefix),
                "start_revision": since + 1,
                "progress_notify": True,
            }
            try:
                async with aclosing(self._gateway.watch({"create_request": request})) as results:
                    async for result in results:
                        if result.compact_revision:
                            raise _compacted(since)
                        if result.created and result.header.revision < since:
                            await self._see_same(since)
                        elif not result.created and not result.events:  # how far it is
                            since = max(since, result.header.revision)
                        for revision, events in groupby(result.events, _revision):
                            since = revision
                            yield [_event(event) for event in events]
            except LostError:
                await asyncio.sleep(_PAUSE_SECONDS)
        raise UnavailableError("the store is closed")

    async def everything(self) -> AsyncIterator[Put]:
        """See `Store`."""
        begin, revision = _bytes(""), 0
        left: dict[int, float] = {}
        while True:
            body = {"key": begin, "range_end": _end(""), "limit": _PAGE, "revision": revision}
            answer = await self._gateway.read("/kv/range", body, Range, seconds=_PATIENCE_SECONDS)
            revision = revision or answer.header.revision
            for found in answer.kvs:
                if found.lease and found.lease not in left:
                    left[found.lease] = await self._seconds_left(found.lease)
                seconds = left[found.lease] if found.lease else None
                if seconds is None or seconds > 0:
                    yield Put(_key(found.key), found.value, seconds=seconds)
            if not answer.more:
                return
            begin = answer.kvs[-1].key + b"\0"

    async def fill(self, puts: Sequence[Put], *, replace: bool = False) -> None:
        """See `Store`. One call of etcd has no room for all; so it can stop half-way."""
        kept, _ = await self.list("", limit=None if replace else 1)
        if kept and not replace:
            raise not_empty(kept[0].key)
        new = {put.key for put in puts}
        changes: list[Change] = [*puts]
        changes += (Delete(entry.key) for entry in kept if entry.key not in new)
        done = 0
        for batch in batches(changes):
            try:
                await self.change(*batch)
            except UnavailableError as error:
                raise UnavailableError(
                    f"{done} of {len(changes)} changes were made, and the store is of no use until "
                    f"the others are: repeat it, and replace all that it has ({error})"
                ) from error
            done += len(batch)

    async def close(self) -> None:
        """See `Store`."""
        self._closed = True
        self._compacting.cancel()
        await asyncio.gather(self._compacting, return_exceptions=True)
        await self._gateway.close()

    async def _range(self, body: dict[str, Any]) -> Range:
        try:
            answer = await self._gateway.read("/kv/range", body, Range, seconds=self._patience)
        except UnavailableError:
            old = {**body, "serializable": True}
            answer = await self._gateway.read("/kv/range", old, Range, seconds=0, leader=False)
            self._patience = 0  # the next read need not find it out again
        else:
            self._patience = _PATIENCE_SECONDS
        return answer

    async def _seconds_left(self, lease: int) -> float:
        body = {"ID": lease}
        answer = await self._gateway.read(
            "/lease/timetolive", body, Lease, seconds=_PATIENCE_SECONDS
        )
        return answer.TTL

    async def _change(self, changes: Sequence[Change]) -> Txn:
        operations = []
        for change in changes:
            key = _bytes(change.key)
            if isinstance(change, Put):
                put: dict[str, Any] = {"key": key, "value": change.value}
                if change.seconds is not None:
                    put["lease"] = await self._leases.of(change.seconds)
                operations.append({"request_put": put})
            else:
                operations.append({"request_delete_range": {"key": key}})
        expecting = [change for change in changes if change.expected is not None]
        body = {
            "compare": [
                {
                    "key": _bytes(change.key),
                    "target": "MOD",
                    "result": "EQUAL",
                    "mod_revision": change.expected,
                }
                for change in expecting
            ],
            "success": operations,
            "failure": [
                {"request_range": {"key": _bytes(change.key), "keys_only": True}}
                for change in expecting
            ],
        }
        return await self._gateway.change("/kv/txn", body, Txn)

    async def _see_same(self, since: int) -> None:
        """Of a member that has not heard of ``since`` yet, or an etcd that never will."""
        body = {"key": _bytes(""), "limit": 1}
        answer = await self._gateway.read("/kv/range", body, Range, seconds=_PATIENCE_SECONDS)
        if answer.header.revision < since:
            raise _compacted(since)

    async def _compact(self) -> None:
        known: list[tuple[float, int]] = []
        while True:
            await asyncio.sleep(_COMPACTING_SECONDS)
            try:
                body = {"key": _bytes(""), "limit": 1}
                answer = await self._gateway.read("/kv/range", body, Range, seconds=0)
                now = time.monotonic()
                known.append((now, answer.header.revision))
                while known[0][0] < now - HISTORY_SECONDS:
                    _, revision = known.pop(0)
                    await self._gateway.read(
                        "/kv/compaction", {"revision": revision}, Nothing, seconds=0
                    )
            except UnavailableError:  # also where another server was quicker
                continue


def _bytes(key: str) -> bytes:
    return (ROOT + key).encode()


def _end(prefix: str) -> bytes:
    """Behind all keys that begin so: no key has this byte, being UTF-8."""
    return _bytes(prefix) + b"\xff"


def _key(name: bytes) -> str:
    return name.decode().removeprefix(ROOT)


def _entry(answer: Range, i: int) -> Entry:
    found = answer.kvs[i]
    return Entry(_key(found.key), found.value, found.mod_revision)


def _event(event: WatchEvent) -> Event:
    found = event.kv
    value = None if event.type == "DELETE" else found.value
    return Event(_key(found.key), value, found.mod_revision)


def _revision(event: WatchEvent) -> int:
    return event.kv.mod_revision


def _changed(changes: Sequence[Change], answer: Txn) -> str:
    """The first key whose revision is not the expected one."""
    expecting = [change for change in changes if change.expected is not None]
    for change, response in zip(expecting, answer.responses, strict=True):
        kvs = response.response_range.kvs if response.response_range else []
        if (kvs[0].mod_revision if kvs else 0) != change.expected:
            return change.key
    return expecting[0].key


def _compacted(since: int) -> CompactedError:
    return CompactedError(f"changes since revision {since} are not kept any more: read all again")
