# SPDX-License-Identifier: Apache-2.0
"""sqlite_file.py: whose the file is, and files that are no store or a damaged one."""

import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from cloud_toa.cluster.store import Put, UnavailableError
from cloud_toa.cluster.store.sqlite import SqliteStore
from cloud_toa.cluster.store.sqlite_file import opened


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"this is a letter to my aunt. " * 100, "is no store"),
        (b"SQLite format 3\0" + b"\xff" * 5000, "can't be used"),
    ],
)
def test_a_file_that_is_something_else_is_left_alone(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)
    with pytest.raises(UnavailableError, match=words) as refusal:
        opened(path)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == content


def test_other_databases_and_newer_stores_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE entries (mine TEXT)")
    other.close()
    with pytest.raises(UnavailableError, match="another program's database"):
        opened(path)
    db = opened(tmp_path / "newer.db")
    db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(UnavailableError, match="has version 7, and this cloud-toa knows 1"):
        opened(tmp_path / "newer.db")


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"

    async def damage() -> None:
        store = await SqliteStore.open(path)
        await store.change(*(Put(f"a/{i}", b"x" * 1000) for i in range(100)))
        await store.close()
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xee" * (len(content) - 4096))
        store = await SqliteStore.open(path)
        with pytest.raises(UnavailableError, match="it is damaged: import what"):
            await store.list("")
        await store.close()

    asyncio.run(damage())


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=f"{tmp_path}/none is no directory"):
        opened(tmp_path / "none" / "cluster.db")
    with pytest.raises(UnavailableError, match="Is a directory"):
        opened(tmp_path)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "cluster.db"

    async def see() -> None:
        store = await SqliteStore.open(path)
        await store.change(Put("a", b""))
        assert {file.name for file in tmp_path.iterdir()} == {
            "cluster.db",
            "cluster.db-wal",
            "cluster.db-shm",
        }
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
        await store.close()
        path.chmod(0o644)
        await (await SqliteStore.open(path)).close()
        assert path.stat().st_mode & 0o777 == 0o600

    before = os.umask(0)
    try:
        asyncio.run(see())
    finally:
        os.umask(before)


def test_what_root_makes_is_the_directorys_owners(tmp_path: Path) -> None:
    place = tmp_path / "service"
    place.mkdir()
    os.chown(place, 1234, 1235)

    async def see() -> None:
        store = await SqliteStore.open(place / "cluster.db")
        await store.change(Put("a", b""))
        found = {(file.stat().st_uid, file.stat().st_gid) for file in place.iterdir()}
        await store.close()
        assert found == {(1234, 1235)}

    asyncio.run(see())
