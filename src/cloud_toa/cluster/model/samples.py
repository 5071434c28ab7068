# SPDX-License-Identifier: Apache-2.0
"""How much passes, for charts: by node, and of the whole cluster.

A node's samples stand together by five minutes. To add up a thousand nodes for a chart would be to
read a hundred megabytes, so each API server also adds up what it is told, under `Totals`, which
has a key of its own in each five minutes: the cluster's sum is the sum over servers.
"""

import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model import random_tokens
from cloud_toa.cluster.model.protocol import Sample
from cloud_toa.cluster.model.values import put, read
from cloud_toa.cluster.store import ConflictError, Put, Store

SECONDS = 10.0
"""What a sample is the rate over."""
BUCKET = 300.0
_SLOTS = int(BUCKET / SECONDS)
_SAME = SECONDS / 2
"""Two of a node's samples that are closer are the same one: how far its clock is ahead of the
server's is found a little different each time."""
KEPT = 24 * 3600.0
_TRIES = 5
_ROOM = 1_000_000
"""Bytes of a sum; a store takes a megabyte."""
_NUMBER = 28
"""Bytes that a number takes at most, with what stands around it and its name."""
NODE = ""
"""The name under which a sample has a node as a whole."""


class Amounts(Struct):
    """What passed in one slot of ten seconds."""

    connections: dict[str, float] = {}
    """By service, and under `NODE` all together; so are bytes."""
    bytes: dict[str, float] = {}
    with_toa: float = 0.0
    without_toa: float = 0.0

    def add(self, other: "Amounts", names: Container[str] | None = None) -> None:
        """Count something else in; of services only these, if given."""
        for mine, its in ((self.connections, other.connections), (self.bytes, other.bytes)):
            for name, value in its.items():
                if names is None or name in names:
                    mine[name] = mine.get(name, 0.0) + value
        self.with_toa += other.with_toa
        self.without_toa += other.without_toa


class Point(Struct, frozen=True, kw_only=True):
    """Rates over the seconds from ``time`` on."""

    time: float
    connections: float
    """New ones per second."""
    bytes: float
    """Per second, both ways."""
    with_toa: float | None
    """New connections to origins per second that carried the option; null, as is the other, of a
    service: nodes count it of all services together.
    """
    without_toa: float | None


class Series(Struct, frozen=True, kw_only=True):
    """What a chart shows. Where nothing was told, there is no point."""

    begin: float
    end: float
    step: float
    points: list[Point]
    services: list[str]
    """All that were heard of in this time."""


def amounts(sample: Sample) -> Amounts:
    """What passed in a sample's ten seconds."""
    return Amounts(
        connections={name: rate * SECONDS for name, rate in sample.connections.items()},
        bytes={name: rate * SECONDS for name, rate in sample.bytes.items()},
        with_toa=sample.with_toa * SECONDS,
        without_toa=sample.without_toa * SECONDS,
    )


class Keeper:
    """Keeps what nodes tell an API server.

    It remembers the last key of each node as it left it, which is a thousand reads less in half a
    minute; another server's change of it is noticed, as the store compares revisions.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._last: dict[str, _Kept] = {}

    async def keep(self, id_: str, told: Sequence[Sample], ahead: float) -> list[Sample]:
        """Keep a node's samples; answer those that were not kept before, by the server's clock.

        Args:
            id_: the node's.
            told: what it says.
            ahead: seconds by which its clock is ahead.
        """
        now = self._clock()
        samples = [msgspec.structs.replace(each, time=each.time - ahead) for each in told]
        samples = [each for each in samples if now - KEPT < each.time < now + BUCKET]
        buckets: dict[int, list[Sample]] = {}
        for sample in samples:
            buckets.setdefault(_bucket(sample.time), []).append(sample)
        new: list[Sample] = []
        for bucket, its in sorted(buckets.items()):
            new += await self._add(id_, bucket, its)
        return new

    async def _add(self, id_: str, bucket: int, its: list[Sample]) -> list[Sample]:
        key = f"samples/{id_}/{_key(bucket)}"
        kept = self._last.pop(id_, None)
        tries = 0
        while True:
            if kept is not None and kept.bucket < bucket:
                kept = _Kept(bucket, [], 0)  # most probably
            elif kept is None or kept.bucket > bucket:
                entry = await self._store.get(key)
                before = read(entry, list[Sample]) if entry else []
                kept = _Kept(bucket, before, entry.revision if entry else 0)
            # A node that heard no answer tells it again.
            both = list(kept.samples)
            for sample in its:
                if all(abs(sample.time - each.time) >= _SAME for each in both):
                    both.append(sample)
            seconds = max(60.0, bucket + BUCKET + KEPT - self._clock())
            try:
                revision = await self._store.change(put(key, both, kept.revision, seconds))
            except ConflictError:
                kept = None
                tries += 1
                if tries == _TRIES:
                    raise
            else:
                self._last[id_] = _Kept(bucket, both, revision)
                self._forget()
                return both[len(kept.samples) :]

    def _forget(self) -> None:
        """Let go of what is of nodes that have told nothing for a while, as they may be gone."""
        old = self._clock() - 2 * BUCKET
        # In the order in which they told something.
        while self._last and next(iter(self._last.values())).bucket <= old:
            del self._last[next(iter(self._last))]


class _Kept(NamedTuple):
    bucket: int
    samples: list[Sample]
    revision: int


async def of_node(
    store: Store, id_: str, *, since: float, until: float, step: float, service: str = NODE
) -> Series:
    """A node's rates, or those of a service on it."""
    entries, _ = await store.list(
        f"samples/{id_}/", after=f"samples/{id_}/{_key(_bucket(since) - 1)}"
    )
    told = (
        (sample.time, amounts(sample)) for entry in entries for sample in read(entry, list[Sample])
    )
    return _series(told, since, until, step, service)


async def of_cluster(
    store: Store, *, since: float, until: float, step: float, service: str = NODE
) -> Series:
    """The cluster's rates, or those of a service on all nodes."""
    entries, _ = await store.list("totals/", after=f"totals/{_key(_bucket(since) - 1)}~")
    told = (
        (slot, each)
        for entry in entries
        for slot, each in read(entry, dict[float, Amounts]).items()
    )
    return _series(told, since, until, step, service)


class _Sum:
    """What passed in five minutes: small enough to be kept, whatever names nodes invent."""

    def __init__(self) -> None:
        self.slots: dict[float, Amounts] = {}
        self._names: set[str] = set()
        self._room = _ROOM
        self._admit(NODE)

    def add(self, sample: Sample) -> None:
        """Count a sample in; a service that there is no room for, in its node alone."""
        for name in (*sample.connections, *sample.bytes):
            self._admit(name)
        slot = sample.time // SECONDS * SECONDS
        self.slots.setdefault(slot, Amounts()).add(amounts(sample), self._names)

    def _admit(self, name: str) -> None:
        size = _SLOTS * 2 * (len(name) + _NUMBER)
        if name not in self._names and size <= self._room:
            self._names.add(name)
            self._room -= size


class Totals:
    """What this API server was told by nodes, added up."""

    def __init__(self) -> None:
        self._server = random_tokens.new_id()
        self._sums: dict[int, _Sum] = {}
        self._changed: set[int] = set()

    def add(self, told: Iterable[Sample]) -> None:
        """Count samples in, whose time is the server's."""
        for sample in told:
            bucket = _bucket(sample.time)
            self._sums.setdefault(bucket, _Sum()).add(sample)
            self._changed.add(bucket)

    def again(self, key: str) -> None:
        """A change was not kept: give it once more."""
        self._changed.add(int(key.split("/")[1]))

    def changes(self) -> list[Put]:
        """What is to be kept anew; given once."""
        now = time.time()
        changed = [
            put(
                f"totals/{_key(bucket)}/{self._server}",
                self._sums[bucket].slots,
                None,
                max(60.0, bucket + BUCKET + KEPT - now),
            )
            # One that could not be kept may have been let go of since.
            for bucket in sorted(self._changed & self._sums.keys())
        ]
        self._changed.clear()
        # What a node tells after hours begins a key's sum again only where this one forgets it.
        for bucket in [each for each in self._sums if each + BUCKET + KEPT < now]:
            del self._sums[bucket]
        return changed


def _series(
    told: Iterable[tuple[float, Amounts]], since: float, until: float, step: float, service: str
) -> Series:
    sums: dict[float, Amounts] = {}
    names: set[str] = set()
    for at, each in told:
        if since <= at < until:
            sums.setdefault(since + (at - since) // step * step, Amounts()).add(each)
            names.update(each.connections)
    points = [
        Point(
            time=at,
            connections=each.connections.get(service, 0.0) / step,
            bytes=each.bytes.get(service, 0.0) / step,
            with_toa=each.with_toa / step if service == NODE else None,
            without_toa=each.without_toa / step if service == NODE else None,
        )
        for at, each in sorted(sums.items())
    ]
    services = sorted(names - {NODE})
    return Series(begin=since, end=until, step=step, points=points, services=services)


def _bucket(at: float) -> int:
    return int(at // BUCKET * BUCKET)


def _key(bucket: int) -> str:
    return f"{bucket:010d}"
