# SPDX-License-Identifier: Apache-2.0
"""mirror.py: what is held in memory is what the store has."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from cloud_toa.cluster.store import ConflictError, Delete, Event, Put, Store, UnavailableError
from cloud_toa.cluster.store.mirror import Mirror
from cloud_toa.cluster.store.sqlite import SqliteStore


def with_mirror(path: Path, test: Callable[[Mirror, Store], Awaitable[None]]) -> None:
    """Run a test with a mirror, and with another process's store, so to speak."""

    async def main() -> None:
        other = await SqliteStore.open(path / "cluster.db")
        await other.change(Put("a/0", b"before"), Put("b/0", b"not held"))
        mirror = Mirror(await SqliteStore.open(path / "cluster.db"), ["a/"])
        await mirror.start()
        try:
            await test(mirror, other)
        finally:
            await mirror.close()
            await other.close()

    asyncio.run(main())


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    async def test(mirror: Mirror, _: Store) -> None:
        for at in range(20):
            revision = await mirror.change(Put("a/1", b"%d" % at), Put("c", b""))
            entry = await mirror.get("a/1")
            assert entry is not None
            assert (entry.value, entry.revision) == (b"%d" % at, revision)
        await mirror.change(Delete("a/1"), Delete("a/never"))
        assert await mirror.get("a/1") is None

    with_mirror(tmp_path, test)


def test_lists_as_the_store_does(tmp_path: Path) -> None:
    async def test(mirror: Mirror, other: Store) -> None:
        await mirror.change(*(Put(f"a/{at}", b"x") for at in range(5)))
        for prefix in ("a/", "a/3", "b/", "a/9"):
            for backwards in (False, True):
                for after in ("", "a/2", "a/4"):
                    for limit in (None, 0, 2):
                        options = {"after": after, "limit": limit, "backwards": backwards}
                        mine, _ = await mirror.list(prefix, **options)  # type: ignore[arg-type]
                        its, _ = await other.list(prefix, **options)  # type: ignore[arg-type]
                        assert mine == its

    with_mirror(tmp_path, test)


def test_who_is_told_of_a_conflict_sees_with_what(tmp_path: Path) -> None:
    async def test(mirror: Mirror, other: Store) -> None:
        before = await mirror.get("a/0")
        assert before is not None
        await other.change(Put("a/0", b"theirs"))
        with pytest.raises(ConflictError):
            await mirror.change(Put("a/0", b"mine", before.revision))
        now = await mirror.get("a/0")
        assert now is not None
        assert now.value == b"theirs"
        await other.change(Delete("a/0"))
        with pytest.raises(ConflictError):
            await mirror.change(Put("a/0", b"mine", now.revision))
        assert await mirror.get("a/0") is None

    with_mirror(tmp_path, test)


def test_listeners_are_told_each_change(tmp_path: Path) -> None:
    async def test(mirror: Mirror, other: Store) -> None:
        told: list[tuple[str, bytes | None]] = []

        def listener(events: Sequence[Event]) -> None:
            told.extend((event.key, event.value) for event in events)

        mirror.listen(listener)
        await other.change(Put("a/1", b"1"), Put("b/1", b"1"))
        await other.change(Put("a/1", b"2"))
        await mirror.change(Delete("a/0"))
        assert told == [("a/1", b"1"), ("a/1", b"2"), ("a/0", None)]

    with_mirror(tmp_path, test)


def test_what_is_held_is_there_without_the_store(tmp_path: Path) -> None:
    async def test(mirror: Mirror, _: Store) -> None:
        await mirror.store.close()
        entry = await mirror.get("a/0")
        assert entry is not None
        assert len((await mirror.list("a/"))[0]) == 1
        with pytest.raises(UnavailableError):
            await mirror.get("b/0")
        with pytest.raises(UnavailableError):
            await mirror.change(Put("a/0", b"x"))

    with_mirror(tmp_path, test)
