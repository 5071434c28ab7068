# SPDX-License-Identifier: Apache-2.0
"""A store in a file while processes are killed, disks are full, and others write."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_toa import libc
from cloud_toa.cluster.store import Put, UnavailableError
from cloud_toa.cluster.store.limits import HISTORY_SECONDS, batches
from cloud_toa.cluster.store.sqlite import SqliteStore
from cloud_toa.cluster.store.sqlite_file import opened
from cloud_toa.isolation import run
from tests.cluster.store.watching import Watching

# Puts pairs of keys, several at once, and says which are kept.
WRITER = """
import asyncio, sys
from pathlib import Path
from cloud_toa.cluster.store import Put
from cloud_toa.cluster.store.sqlite import SqliteStore

async def main(path, name):
    store = await SqliteStore.open(Path(path))
    async def put(first):
        for i in range(first, 100000, 8):
            await store.change(Put(f"{name}/a/{i}", b"x" * 300), Put(f"{name}/b/{i}", b"x" * 300))
            print(i, flush=True)
    await asyncio.gather(*(put(first) for first in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    try:
        yield place
    finally:
        run("umount", str(place))


def writer(path: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: libc.call("prctl", libc.PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
    )


def test_what_was_answered_is_kept_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"
    with writer(path, "w") as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(200)]
        process.kill()
        said += [int(line) for line in process.stdout.read().split("\n")[:-1]]

    async def see() -> None:
        store = await SqliteStore.open(path)
        entries, revision = await store.list("w/")
        found = {entry.key: entry.revision for entry in entries}
        assert {f"w/a/{i}" for i in said} <= set(found)
        for key, at in found.items():
            assert found[key.replace("/a/", "/b/")] == at, "nothing is half kept"
        assert revision == len(found) // 2
        assert await store.change(Put("later", b"")) == revision + 1
        await store.close()

    asyncio.run(see())


def test_two_processes_write_at_once_and_a_third_sees_it_all(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"

    async def see() -> list[list[str]]:
        store = await SqliteStore.open(path)
        async with Watching(store, "", 0) as watching:
            with writer(path, "one") as one, writer(path, "two") as two:
                await watching.until_key("one/a/100")
                await watching.until_key("two/a/100")
                one.kill()
                two.kill()
            last = await store.change(Put("end", b""))
            events = await watching.until_key("end")
        assert [event.revision for event in events] == sorted(event.revision for event in events)
        revisions = [together[0].revision for together in watching.told]
        assert revisions == list(range(1, last + 1)), "each once"
        entries, _ = await store.list("")
        assert sorted(event.key for event in events) == [entry.key for entry in entries]
        await store.close()
        return [[event.key for event in together] for together in watching.told]

    told = asyncio.run(see())
    assert all(len(together) == 2 for together in told[:-1])


def test_a_full_disk_keeps_nothing_of_a_change_and_all_before(disk: Path) -> None:
    async def fill() -> None:
        store = await SqliteStore.open(disk / "cluster.db")
        kept: list[int] = []

        async def put() -> None:
            for i in range(100):
                await store.change(Put(f"a/{i:03}", b"x" * 20000), Put(f"b/{i:03}", b"x" * 20000))
                kept.append(i)

        with pytest.raises(UnavailableError, match=r"cluster\.db can't be used: its disk is full"):
            await put()
        assert 2 < len(kept) < 30
        with pytest.raises(UnavailableError, match="disk is full"):
            await store.change(Put("big", b"x" * 500000))
        entries, revision = await store.list("")
        assert [entry.key for entry in entries] == [f"{n}/{i:03}" for n in "ab" for i in kept]
        assert revision == len(kept)
        run("mount", "-o", "remount,size=8m", str(disk))
        assert await store.change(Put("c", b"x" * 500000)) == len(kept) + 1
        await store.close()

    asyncio.run(fill())


def test_keys_whose_time_is_over_are_not_seen_on_a_full_disk(disk: Path) -> None:
    async def fill() -> None:
        store = await SqliteStore.open(disk / "cluster.db")
        await store.change(Put("session", b"", seconds=0.2))
        with (disk / "others").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        assert os.statvfs(disk).f_bavail == 0
        async with asyncio.timeout(5):
            while await store.get("session"):
                await asyncio.sleep(0.05)
        assert (await store.list(""))[0] == []
        await store.close()

    asyncio.run(fill())


def test_more_keys_than_are_removed_at_once_are_all_gone(tmp_path: Path) -> None:
    async def see() -> None:
        store = await SqliteStore.open(tmp_path / "cluster.db")
        puts = [Put(f"a/{i:04}", b"", seconds=0.05 + i / 1e5) for i in range(1200)]
        await asyncio.gather(*(store.change(*batch) for batch in batches(puts)))
        await asyncio.sleep(0.2)
        assert (await store.list(""))[0] == []
        await store.change(Put("a/1199", b"new", expected=0))
        async with asyncio.timeout(10), Watching(store, "", 0) as watching:
            events = await watching.until(lambda events: len(events) == 2 * 1200 + 1)
        assert {event.key for event in events if event.value is None} == {put.key for put in puts}
        found = await store.list("")
        assert [(entry.key, entry.value) for entry in found[0]] == [("a/1199", b"new")]
        await store.close()

    asyncio.run(see())


def test_a_disk_that_can_only_be_read_is_named(disk: Path) -> None:
    async def see() -> None:
        await (await SqliteStore.open(disk / "cluster.db")).close()
        run("mount", "-o", "remount,ro", str(disk))
        with pytest.raises(UnavailableError, match="Read-only file system"):
            await SqliteStore.open(disk / "cluster.db")

    asyncio.run(see())


def test_history_is_forgotten_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cluster.db"

    async def see() -> None:
        store = await SqliteStore.open(path)
        now = time.time()
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now - HISTORY_SECONDS - 1)
            await store.change(Put("a", b"old"))
        last = await store.change(Put("a", b"new"))
        monkeypatch.setattr("cloud_toa.cluster.store.sqlite._COMPACTING_SECONDS", 0)
        async with asyncio.timeout(10):
            db = opened(path)
            while db.execute("SELECT count(*) FROM changes").fetchone() != (1,):
                await asyncio.sleep(0.05)
            db.close()
        async with Watching(store, "", last - 1) as watching:
            (event,) = await watching.until_key("a")
            assert event.value == b"new"
        await store.close()

    asyncio.run(see())


def test_a_change_waits_for_another_process_and_says_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_toa.cluster.store.sqlite_file.BUSY_SECONDS", 0.5)
    path = tmp_path / "cluster.db"

    async def see() -> None:
        store = await SqliteStore.open(path)
        other = opened(path)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(store.change(Put("a", b"")))
        assert await store.get("a") is None, "reads go on"
        with pytest.raises(UnavailableError, match=r"cluster\.db can't be used: another process"):
            await waiting
        waiting = asyncio.create_task(store.change(Put("a", b"")))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        await waiting
        other.close()
        await store.close()

    asyncio.run(see())


def test_every_change_is_on_the_disk_when_it_is_answered(tmp_path: Path) -> None:
    """Seen by strace: a power cut can't be had here."""
    script = """
import asyncio, os, sys
from pathlib import Path
from cloud_toa.cluster.store import Put
from cloud_toa.cluster.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    for i in range(5):
        await store.change(Put("a", b"%d" % i))
        os.write(2, b"answered")
    os._exit(0)

asyncio.run(main())
"""
    traced = tmp_path / "trace"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-o", traced, "-e", "trace=fdatasync,fsync,write"),
            *(sys.executable, "-c", script, tmp_path / "cluster.db"),
        ],
        check=True,
        capture_output=True,
    )
    calls = [
        "answered" if '"answered"' in line else "synced"
        for line in traced.read_text().splitlines()
        if '"answered"' in line or ("sync(" in line and "-wal>" in line)
    ]
    assert calls.count("answered") == 5
    assert all(calls[i - 1] == "synced" for i, call in enumerate(calls) if call == "answered")


LOOK = """
import asyncio, sys
from pathlib import Path
from cloud_toa.cluster.store.sqlite import SqliteStore

async def main(path):
    store = await SqliteStore.open(Path(path))
    entry = await store.get("a")
    await store.close()
    print(entry.value.decode())

asyncio.run(main(sys.argv[1]))
"""


def test_another_process_that_closes_takes_nothing_away(tmp_path: Path) -> None:
    """POSIX locks go with any handle of the file that is closed, and with them SQLite's log."""
    path = tmp_path / "cluster.db"

    async def main() -> None:
        store = await SqliteStore.open(path)
        for value in (b"1", b"2"):
            await store.change(Put("a", value))
            looking = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", LOOK, str(path)), stdout=subprocess.PIPE
            )
            said, _ = await looking.communicate()
            assert said.strip() == value
            assert path.with_name("cluster.db-wal").exists()
        await store.close()

    asyncio.run(main())
