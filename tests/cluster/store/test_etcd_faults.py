# SPDX-License-Identifier: Apache-2.0
"""Members of etcd that are killed, hang and come back."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from cloud_toa.cluster.store import (
    ConflictError,
    Entry,
    Event,
    Put,
    Store,
    UnavailableError,
)
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.store.etcd_members import Etcd, run
from tests.cluster.store.watching import Watching


@pytest.fixture(scope="module")
def members() -> Iterator[Etcd]:
    etcd = Etcd()
    try:
        yield etcd
    finally:
        etcd.close()


@pytest.fixture
def shaky(members: Etcd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Etcd]:
    """Three members that do not stay."""
    # Their elections take half as long as usual.
    monkeypatch.setattr("cloud_toa.cluster.store.etcd_gateway.CHANGE_SECONDS", 2.5)
    monkeypatch.setattr("cloud_toa.cluster.store.etcd._PATIENCE_SECONDS", 1.2)
    members.wait()
    yield members
    for member in members.members:
        if not member.lives:
            members.start(member)


async def put_for_sure(store: Store, key: str) -> int:
    """Put a key, again and again; answer after how many times."""
    for times in range(1, 100):
        try:
            await store.change(Put(key, b"", expected=0))
        except UnavailableError:
            continue
        except ConflictError:
            assert times > 1, "it was kept, and we were not told"
        return times
    raise AssertionError


def test_writes_and_watches_go_on_when_the_leader_is_killed(shaky: Etcd) -> None:
    async def test(store: Store) -> None:
        _, since = await store.list("")
        async with Watching(store, "leader/", since) as watching:
            tries = []
            leader = shaky.leader()
            for i in range(60):
                if i == 20:
                    leader.kill()
                tries.append(await put_for_sure(store, f"leader/{i}"))
            events = await watching.until_key("leader/59")
        assert [event.key for event in events] == [f"leader/{i}" for i in range(60)]
        assert tries[:20] == [1] * 20
        assert sum(tries) <= 63, "but for what was under way, nobody had to repeat it"
        shaky.start(leader)
        await asyncio.to_thread(shaky.wait)

    run(shaky, test)


def test_a_watch_goes_on_when_its_member_is_killed(shaky: Etcd) -> None:
    async def test(store: Store) -> None:
        revision = await store.change(Put("member/", b""))
        async with Watching(store, "member/", revision) as watching:
            for i, member in enumerate(shaky.members):
                await store.change(Put(f"member/{i}", b""))
                await watching.until_key(f"member/{i}")
                member.kill()
                await put_for_sure(store, f"member/{i}+")
                await watching.until_key(f"member/{i}+")
                shaky.start(member)
                await asyncio.to_thread(shaky.wait)
            await store.change(Put("member/end", b""))
            events = await watching.until_key("member/end")
        assert [event.key for event in events] == [
            *(f"member/{i}{after}" for i in range(3) for after in ("", "+")),
            "member/end",
        ]

    run(shaky, test)


def test_with_two_of_three_down_reads_go_on_and_a_change_says_that_it_was_not_kept(
    shaky: Etcd,
) -> None:
    async def test(store: Store) -> None:
        last = await store.change(Put("settings", b"good"))
        async with Watching(store, "settings", last) as watching:
            for member in shaky.members[:2]:
                member.kill()
            assert await store.get("settings") == Entry("settings", b"good", last)
            assert await store.list("settings") == ([Entry("settings", b"good", last)], last)
            with pytest.raises(UnavailableError, match="and nothing was changed: ") as refusal:
                await store.change(Put("settings", b"lost", expected=last))
            assert "no leader" in str(refusal.value)
            assert "no connection" in str(refusal.value)
            with pytest.raises(UnavailableError, match="and nothing was changed: "):
                await store.change(Put("alive/a", b"", seconds=45))
            assert await store.get("settings") == Entry("settings", b"good", last)
            other = await open_store(shaky.url)
            assert await other.get("settings") == Entry("settings", b"good", last), "also at first"
            await other.close()
            for member in shaky.members[:2]:
                shaky.start(member)
            await asyncio.to_thread(shaky.wait)
            later = await store.change(Put("settings", b"better", expected=last))
            assert await watching.until_key("settings") == [Event("settings", b"better", later)]
            found = await store.get("settings")
            assert found is not None
            assert found.value == b"better"

    run(shaky, test)


def test_with_all_down_each_call_says_so_and_all_is_well_after(shaky: Etcd) -> None:
    async def test(store: Store) -> None:
        last = await store.change(Put("all", b"1"))
        async with Watching(store, "all", last - 1) as watching:
            await watching.until_key("all")
            for member in shaky.members:
                member.kill()
            for call in (store.get("all"), store.list("all"), store.change(Put("all", b"2"))):
                with pytest.raises(UnavailableError) as refusal:
                    await call
                assert "\n" not in str(refusal.value)
            for member in shaky.members:
                shaky.start(member)
            await asyncio.to_thread(shaky.wait)
            found = await store.get("all")
            assert found == Entry("all", b"1", last)
            later = await store.change(Put("all", b"3", expected=last))
            events = await watching.until(lambda events: len(events) == 2)
            assert events[1] == Event("all", b"3", later)

    run(shaky, test)


def test_a_member_that_hangs_is_left(shaky: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_toa.cluster.store.etcd_gateway._SILENT_SECONDS", 0.2)
    monkeypatch.setattr("cloud_toa.cluster.store.etcd_gateway._READ_SECONDS", 0.5)

    async def test(store: Store) -> None:
        revision = await store.change(Put("hang/", b""))
        async with Watching(store, "hang/", revision - 1) as watching:
            await watching.until_key("hang/")
            member = shaky.members[0]  # the one that is asked first
            member.signal(signal.SIGSTOP)
            try:
                assert await store.get("hang/") is not None
                await put_for_sure(store, "hang/1")
                await watching.until_key("hang/1")
            finally:
                member.signal(signal.SIGCONT)
                await asyncio.to_thread(shaky.wait)

    run(shaky, test)


def test_a_watch_that_begins_at_a_member_that_hangs(
    shaky: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_toa.cluster.store.etcd_gateway._READ_SECONDS", 0.5)

    async def test(store: Store) -> None:
        revision = await store.change(Put("begin/", b""))
        member = shaky.members[0]  # the one that is asked first
        member.signal(signal.SIGSTOP)
        try:
            async with Watching(store, "begin/", revision - 1) as watching:
                await watching.until_key("begin/")
        finally:
            member.signal(signal.SIGCONT)
            await asyncio.to_thread(shaky.wait)

    run(shaky, test)


def test_nothing_is_told_twice_by_a_member_that_lags_behind(shaky: Etcd) -> None:
    async def test(store: Store) -> None:
        lagging = next(member for member in shaky.members if member is not shaky.leader())
        lagging.signal(signal.SIGSTOP)
        others = ",".join(
            f"127.0.0.1:{member.client}" for member in shaky.members if member is not lagging
        )
        well = await open_store(f"etcd://{others}")
        for i in range(20):
            last = await well.change(Put(f"lag/{i}", b""))
        behind = await open_store(f"etcd://127.0.0.1:{lagging.client}")
        async with Watching(behind, "lag/", last) as watching:
            lagging.signal(signal.SIGCONT)
            await well.change(Put("lag/end", b""))
            assert [event.key for event in await watching.until_key("lag/end")] == ["lag/end"]
        await well.close()
        await behind.close()
        await asyncio.to_thread(shaky.wait)

    run(shaky, test)
