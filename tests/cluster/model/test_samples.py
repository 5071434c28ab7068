# SPDX-License-Identifier: Apache-2.0
"""samples.py on a real store: what nodes tell is kept once, whichever servers they tell it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from cloud_toa.cluster.model.protocol import Sample
from cloud_toa.cluster.model.samples import BUCKET, SECONDS, Keeper, of_node
from cloud_toa.cluster.model.values import read
from cloud_toa.cluster.store import Delete, Entry, Store
from cloud_toa.cluster.store.mirror import Mirror
from cloud_toa.cluster.store.sqlite import SqliteStore

NODE = "n1"
BEGIN = time.time() // BUCKET * BUCKET - BUCKET
NOW = BEGIN + 2 * BUCKET - 1
"""However long the tests before these have taken."""


class Counting(Mirror):
    """A store, and how often a key of it was read."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, ())
        self.reads = 0

    async def get(self, key: str) -> Entry | None:
        self.reads += 1
        return await super().get(key)


def keeper_of(store: Store) -> Keeper:
    return Keeper(store, lambda: NOW)


def with_servers(path: Path, test: Callable[[Counting, Counting], Awaitable[None]]) -> None:
    async def main() -> None:
        stores = [await SqliteStore.open(path / "cluster.db") for _ in range(2)]
        try:
            await test(*map(Counting, stores))
        finally:
            for store in stores:
                await store.close()

    asyncio.run(main())


def told(*slots: int) -> list[Sample]:
    return [
        Sample(
            time=BEGIN + slot * SECONDS, connections={"": 1.0}, bytes={"": 2.0},
            with_toa=1.0, without_toa=0.0,
        )
        for slot in slots
    ]  # fmt: skip


async def kept(store: Store) -> list[int]:
    series = await of_node(store, NODE, since=BEGIN, until=BEGIN + 2 * BUCKET, step=SECONDS)
    assert all(point.connections == 1.0 for point in series.points)
    return [round((point.time - BEGIN) / SECONDS) for point in series.points]


def test_reads_what_it_wrote_before_once(tmp_path: Path) -> None:
    async def test(store: Counting, _: Counting) -> None:
        keeper = keeper_of(store)
        for slot in range(60):  # two keys
            await keeper.keep(NODE, told(slot), 0.0)
        assert store.reads == 1
        # A restarted server, for whom what is there is news.
        again = keeper_of(store)
        await again.keep(NODE, told(58, 59, 5, 29, 30), 0.0)
        assert await kept(store) == list(range(60))

    with_servers(tmp_path, test)


def test_two_servers_are_told_in_turn(tmp_path: Path) -> None:
    async def test(one: Counting, other: Counting) -> None:
        keepers = [keeper_of(one), keeper_of(other)]
        for slot in range(60):
            await keepers[slot % 2].keep(NODE, told(slot), 0.0)
            await keepers[(slot + 1) % 2].keep(NODE, told(slot), 0.0)  # as if no answer had come
        assert await kept(one) == list(range(60))

    with_servers(tmp_path, test)


def test_one_server_is_told_twice_at_once(tmp_path: Path) -> None:
    async def test(store: Counting, _: Counting) -> None:
        keeper = keeper_of(store)
        await asyncio.gather(*(keeper.keep(NODE, told(slot), 0.0) for slot in range(4)))
        assert await kept(store) == list(range(4))

    with_servers(tmp_path, test)


def test_what_was_kept_already_is_not_new(tmp_path: Path) -> None:
    """For the sum over nodes: whichever server has it, and also twice in one call."""

    def slots(samples: list[Sample]) -> list[int]:
        return [round((sample.time - BEGIN) / SECONDS) for sample in samples]

    async def test(one: Counting, other: Counting) -> None:
        keepers = [keeper_of(one), keeper_of(other)]
        assert slots(await keepers[0].keep(NODE, told(28, 29, 30, 30), 0.0)) == [28, 29, 30]
        for keeper in keepers:
            assert await keeper.keep(NODE, told(28, 29, 30), 0.0) == []
        assert slots(await keepers[1].keep(NODE, told(30, 31), 0.0)) == [31]
        assert await kept(one) == [28, 29, 30, 31]

    with_servers(tmp_path, test)


def test_the_same_by_a_clock_that_was_seen_anew(tmp_path: Path) -> None:
    """How far a node's clock is ahead is found a little different by each status."""

    async def test(store: Counting, _: Counting) -> None:
        keeper = keeper_of(store)
        assert len(await keeper.keep(NODE, told(1, 2), -60.0)) == 2
        assert await keeper.keep(NODE, told(1, 2), -60.03) == []

    with_servers(tmp_path, test)


def test_more_than_there_can_be_of_a_time(tmp_path: Path) -> None:
    """Those that were not kept are not new."""

    async def test(store: Counting, _: Counting) -> None:
        keeper = keeper_of(store)
        close = [
            msgspec.structs.replace(sample, time=BEGIN + at * SECONDS / 4)
            for at, sample in enumerate(told(*range(100)))
        ]
        new = await keeper.keep(NODE, close, 0.0)
        assert len(new) <= 60
        entries = (await store.list("samples/"))[0]
        assert len(new) == sum(len(read(entry, list[Sample])) for entry in entries)

    with_servers(tmp_path, test)


def test_a_key_that_has_gone_is_made_again(tmp_path: Path) -> None:
    async def test(store: Counting, other: Counting) -> None:
        keeper = keeper_of(store)
        await keeper.keep(NODE, told(0), 0.0)
        entries, _ = await other.list("samples/")
        await other.change(*(Delete(entry.key) for entry in entries))
        await keeper.keep(NODE, told(1), 0.0)
        assert await kept(store) == [1]

    with_servers(tmp_path, test)


def test_nodes_that_are_silent_are_forgotten(tmp_path: Path) -> None:
    async def test(store: Counting, _: Counting) -> None:
        keeper = keeper_of(store)
        for slot in (0, 1):  # long ago, as a node that was offline tells it
            await keeper.keep("gone", told(slot - 60), 0.0)
        assert store.reads == 2
        for slot in (0, 1):
            await keeper.keep(NODE, told(slot), 0.0)
        assert store.reads == 3
        assert await kept(store) == [0, 1]

    with_servers(tmp_path, test)
