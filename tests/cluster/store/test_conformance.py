# SPDX-License-Identifier: Apache-2.0
"""What the interface promises, of each backend."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cloud_toa.cluster.store import (
    CompactedError,
    ConflictError,
    Delete,
    Entry,
    Event,
    Put,
    Store,
    UnavailableError,
)
from cloud_toa.cluster.store.limits import MAX_BYTES, MAX_CHANGES
from cloud_toa.errors import ToaError
from tests.cluster.store.conftest import Backend
from tests.cluster.store.watching import Watching

Test = Callable[[Store], Awaitable[None]]


def run(backend: Backend, test: Test) -> None:
    async def all_of_it() -> None:
        store = await backend.open()
        try:
            await test(store)
        finally:
            await store.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, "close() leaves nothing running"

    asyncio.run(all_of_it())


def keys(entries: list[Entry]) -> list[str]:
    return [entry.key for entry in entries]


def test_a_key_is_there_once_it_was_put(backend: Backend) -> None:
    async def test(store: Store) -> None:
        assert await store.get("a") is None
        first = await store.change(Put("a", b"\0\xff"))
        assert await store.get("a") == Entry("a", b"\0\xff", first)
        second = await store.change(Put("a", b""))
        assert second > first
        assert await store.get("a") == Entry("a", b"", second)
        assert await store.get("") is None
        third = await store.change(Delete("a"))
        assert third > second
        assert await store.get("a") is None

    run(backend, test)


def test_it_is_there_for_another_that_opens_it(backend: Backend) -> None:
    async def test(store: Store) -> None:
        revision = await store.change(Put("a", b"1"))
        other = await backend.open()
        assert await other.get("a") == Entry("a", b"1", revision)
        later = await other.change(Put("b", b"2", expected=0))
        await other.close()
        assert later > revision
        assert await store.list("") == (
            [Entry("a", b"1", revision), Entry("b", b"2", later)],
            later,
        )

    run(backend, test)


def test_lists_have_an_order_a_place_to_start_and_a_limit(backend: Backend) -> None:
    async def test(store: Store) -> None:
        names = ["n", "n/", "n/1", "n/10", "n/2", "n/é", "n/王", "n/😀", "n0", "o"]
        revision = await store.change(*(Put(name, b"") for name in reversed(names)))

        async def listed(prefix: str, **options: object) -> list[str]:
            found, of = await store.list(prefix, **options)  # type: ignore[arg-type]
            assert of == revision
            return keys(found)

        below = ["n/", "n/1", "n/10", "n/2", "n/é", "n/王", "n/😀"]
        assert await listed("") == names
        assert await listed("n/") == below
        assert await listed("n/", backwards=True) == below[::-1]
        assert await listed("n/", after="n/1") == below[2:]
        assert await listed("n/", after="n/1", limit=2) == below[2:4]
        assert await listed("n/", after="n/2", backwards=True) == below[2::-1]
        assert await listed("n/", after="n/2", backwards=True, limit=1) == ["n/10"]
        assert await listed("n/", after="n/15") == below[3:], "it need not be there"
        assert await listed("n/", after="z") == []
        assert await listed("n/", after="a") == below
        assert await listed("n/", after="a", backwards=True) == []
        assert await listed("n/", after="z", backwards=True) == below[::-1]
        assert await listed("n/", limit=0) == []
        assert await listed("x") == []

    run(backend, test)


def test_a_change_expects_what_was_seen(backend: Backend) -> None:
    async def test(store: Store) -> None:
        first = await store.change(Put("a", b"1", expected=0))
        with pytest.raises(ConflictError, match=r"^a was changed"):
            await store.change(Put("a", b"2", expected=0))
        with pytest.raises(ConflictError):
            await store.change(Put("a", b"2", expected=first - 1))
        second = await store.change(Put("a", b"2", expected=first))
        with pytest.raises(ConflictError):
            await store.change(Put("a", b"3", expected=first))
        with pytest.raises(ConflictError):
            await store.change(Delete("a", expected=first))
        with pytest.raises(ConflictError):
            await store.change(Delete("b", expected=first))
        await store.change(Delete("a", expected=second))
        with pytest.raises(ConflictError):
            await store.change(Put("a", b"3", expected=second))
        await store.change(Delete("a", expected=0))
        await store.change(Put("a", b"3", expected=0))

    run(backend, test)


def test_of_several_changes_all_are_made_or_none(backend: Backend) -> None:
    async def test(store: Store) -> None:
        before = await store.change(Put("a", b"1"), Put("b", b"1"))
        with pytest.raises(ConflictError, match=r"^b was changed"):
            await store.change(
                Put("a", b"2", expected=before), Put("b", b"2", expected=before - 1), Put("c", b"2")
            )
        entries, revision = await store.list("")
        assert entries == [Entry("a", b"1", before), Entry("b", b"1", before)]
        assert revision == before
        after = await store.change(Put("c", b"2"), Delete("a", expected=before), Put("b", b"2"))
        entries, revision = await store.list("")
        assert entries == [Entry("b", b"2", after), Entry("c", b"2", after)]
        assert revision == after

    run(backend, test)


def test_nothing_deleted_is_no_change(backend: Backend) -> None:
    async def test(store: Store) -> None:
        before = await store.change(Put("a", b"1"))
        assert await store.change(Delete("b")) == before
        async with Watching(store, "", before) as watching:
            await store.change(Put("end", b""))
            assert [event.key for event in await watching.until_key("end")] == ["end"]

    run(backend, test)


def test_of_many_that_count_at_once_none_is_lost(backend: Backend) -> None:
    async def test(store: Store) -> None:
        other = await backend.open()

        async def add(on: Store) -> None:
            while True:
                entry = await on.get("count")
                number = int(entry.value) if entry else 0
                try:
                    await on.change(
                        Put("count", b"%d" % (number + 1), entry.revision if entry else 0)
                    )
                except ConflictError:
                    continue
                return

        await asyncio.gather(*(add(on) for on in (store, other) for _ in range(8)))
        await other.close()
        found = await store.get("count")
        assert found is not None
        assert found.value == b"16"

    run(backend, test)


def test_a_watch_tells_what_was_changed_before_and_after(backend: Backend) -> None:
    async def test(store: Store) -> None:
        before = await store.change(Put("w/0", b"0"))
        first = await store.change(Put("w/b", b"1"), Put("w/a", b"1"), Put("x", b"1"))
        async with Watching(store, "w/", before) as watching:
            await watching.until_key("w/a")
            second = await store.change(Delete("w/b"), Put("x", b"2"))
            await store.change(Put("x", b"3"))
            third = await store.change(Put("w/b", b"3"))
            await store.change(Put("w", b""), Put("w0", b""))
            last = await store.change(Put("w/end", b""))
            await watching.until_key("w/end")
        assert watching.told == [
            [Event("w/b", b"1", first), Event("w/a", b"1", first)],
            [Event("w/b", None, second)],
            [Event("w/b", b"3", third)],
            [Event("w/end", b"", last)],
        ]

    run(backend, test)


def test_watches_tell_what_others_do(backend: Backend) -> None:
    async def test(store: Store) -> None:
        other = await backend.open()
        _, since = await store.list("")
        async with Watching(store, "", since) as one, Watching(store, "a", since) as two:
            made = [await other.change(Put(f"a{i}", b"%d" % i)) for i in range(30)]
            wanted = [Event(f"a{i}", b"%d" % i, revision) for i, revision in enumerate(made)]
            assert await one.until_key("a29") == wanted
            assert await two.until_key("a29") == wanted
        await other.close()

    run(backend, test)


def test_what_one_call_changes_is_told_together(backend: Backend) -> None:
    async def test(store: Store) -> None:
        _, since = await store.list("")
        async with Watching(store, "", since) as watching:
            calls = [[Put(f"{call}/{key}", b"x" * 1000) for key in range(100)] for call in range(5)]
            await asyncio.gather(*(store.change(*call) for call in calls))
            await watching.until(lambda events: len(events) == 500)
        assert [len(together) for together in watching.told] == [100] * 5
        assert all(len({event.revision for event in some}) == 1 for some in watching.told)

    run(backend, test)


def test_a_watch_of_what_is_not_kept_any_more_says_so(backend: Backend) -> None:
    async def test(store: Store) -> None:
        first = last = await store.change(Put("a", b"1"), Put("quiet/1", b""))
        async with (
            Watching(store, "quiet", first - 1) as quiet,
            Watching(store, "a", first - 1) as other,
        ):
            await quiet.until_key("quiet/1")
            for i in range(5):
                last = await store.change(Put(f"a{i}", b""))
                # Once one watch was woken by it, the quiet one knows that it can pass it by.
                await other.until_key(f"a{i}")
            await asyncio.to_thread(backend.compact, last)
            with pytest.raises(CompactedError, match=f"since revision {first} "):
                await anext(aiter(store.watch("a", first)))
            async with Watching(store, "a", last) as watching:
                later = await store.change(Put("a", b"end"))
                assert await watching.until_key("a") == [Event("a", b"end", later)]
            await store.change(Put("quiet/2", b""))
            told = await quiet.until_key("quiet/2")
            assert [event.key for event in told] == ["quiet/1", "quiet/2"], "it has missed nothing"

    run(backend, test)


def test_expiring_keys_go_by_themselves(backend: Backend) -> None:
    async def test(store: Store) -> None:
        since = await store.change(
            Put("soon", b"", seconds=1),
            Put("late", b"", seconds=3600),
            Put("again", b"", seconds=1),
            Put("kept", b"", seconds=1),
        )
        await store.change(Put("again", b"", seconds=3600), Put("kept", b""))
        async with Watching(store, "soon", since) as watching:
            (gone,) = await watching.until_key("soon")
        assert gone == Event("soon", None, gone.revision)
        assert gone.revision > since + 1
        entries, _ = await store.list("")
        assert keys(entries) == ["again", "kept", "late"]
        assert await store.get("soon") is None
        await store.change(Put("soon", b"", expected=0))

    run(backend, test)


def test_a_watch_ends_with_the_store(backend: Backend) -> None:
    async def test(store: Store) -> None:
        other = await backend.open()
        since = await other.change(Put("a", b"1"))
        async with Watching(other, "", since - 1) as watching:
            await watching.until_key("a")
            await other.close()
            with pytest.raises(UnavailableError, match="closed"):
                await asyncio.wait_for(watching.task, 5)
        for call in (other.get("a"), other.list(""), other.change(Put("a", b"2"))):
            with pytest.raises(UnavailableError, match="closed"):
                await call
        found = await store.get("a")
        assert found is not None
        assert found.value == b"1"
        await other.close()

    run(backend, test)


def test_a_change_has_its_limits(backend: Backend) -> None:
    async def test(store: Store) -> None:
        most = [Put(f"a/{i:03}", b"", expected=0) for i in range(MAX_CHANGES)]
        await store.change(*most)
        assert len((await store.list("a/"))[0]) == MAX_CHANGES
        with pytest.raises(ToaError, match="129 changes"):
            await store.change(*most, Put("b", b""))
        await store.change(Put("big", b"x" * MAX_BYTES))
        found = await store.get("big")
        assert found is not None
        assert len(found.value) == MAX_BYTES
        with pytest.raises(ToaError, match="1048577 bytes"):
            await store.change(Put("b", b"x" * MAX_BYTES), Put("c", b"x"))
        for wrong in ([], [Put("", b"")], [Put("a\0", b"")], [Put("a", b""), Delete("a")]):
            with pytest.raises(ValueError, match=r"key"):
                await store.change(*wrong)
        assert await store.get("b") is None

    run(backend, test)


def test_a_call_that_was_given_up_does_no_harm(backend: Backend) -> None:
    async def test(store: Store) -> None:
        for i in range(5):
            task = asyncio.create_task(store.change(Put("a", b"%d" % i), Put("b", b"%d" % i)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        last = await store.change(Put("c", b""))
        entries, _ = await store.list("")
        values = {entry.key: entry.value for entry in entries}
        assert values.get("a") == values.get("b")
        assert (await store.get("c")) == Entry("c", b"", last)

    run(backend, test)
