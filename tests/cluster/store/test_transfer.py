# SPDX-License-Identifier: Apache-2.0
"""From one store into a file and into another."""

import asyncio
import io
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_toa.cluster.store import Change, ConflictError, Put, Store, UnavailableError, transfer
from cloud_toa.cluster.store.etcd import EtcdStore
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.errors import ToaError
from tests.cli.command import CLI, call
from tests.cluster.store.conftest import Backend
from tests.cluster.store.etcd_members import Etcd
from tests.cluster.store.watching import Watching

PUTS = [
    Put("settings", b"\0\xffTOML"),
    Put("users/\u738b", b""),
    *(Put(f"logs/{i:04}", b"x" * 3000, seconds=3600) for i in range(1200)),
]


def command(*words: str) -> tuple[int, str]:
    """How it ended, and what it said of it."""
    said = call("cluster", *words)
    assert said.out == ""
    return said.code, said.err


def piped(*words: str, said: bytes = b"") -> bytes:
    return subprocess.run(
        [*CLI, "cluster", *words], input=said, capture_output=True, check=True
    ).stdout


def exported(puts: list[Put], now: float = 1000.0) -> bytes:
    class Some:
        async def everything(self):  # type: ignore[no-untyped-def]
            for put in puts:
                yield put

    file = io.BytesIO()
    asyncio.run(transfer.export(Some(), file, now))  # type: ignore[arg-type]
    return file.getvalue()


async def contents(url: str) -> dict[str, bytes]:
    store = await open_store(url)
    entries, _ = await store.list("")
    await store.close()
    return {entry.key: entry.value for entry in entries}


async def fill(url: str, puts: list[Put]) -> None:
    store = await open_store(url)
    await store.fill(puts)
    await store.close()


def test_all_that_a_store_has_goes_to_another(backend: Backend, tmp_path: Path) -> None:
    asyncio.run(fill(backend.url, PUTS))
    file = tmp_path / "saved"
    done = command("export", str(file), "--store", backend.url)
    assert done == (0, "1202 keys saved from the store\n")
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob(".saved*")) == []

    other = f"sqlite://{tmp_path}/other.db"
    done = command("import", str(file), "--store", other)
    assert done == (0, "1202 keys put into the store\n")
    assert asyncio.run(contents(other)) == {put.key: put.value for put in PUTS}

    again = piped("export", "-", "--store", other)
    read = transfer.read(io.BytesIO(again), "it", time.time())
    assert [(put.key, put.value) for put in read] == sorted((put.key, put.value) for put in PUTS)
    for put in read:
        assert (put.seconds is not None) == put.key.startswith("logs/")
        # A lease of etcd is for keys of about the same time.
        assert put.seconds is None or 3500 < put.seconds < 3600 * 17 / 16

    piped("import", "-", "--store", backend.url, "--replace", said=again)
    assert asyncio.run(contents(backend.url)) == {put.key: put.value for put in PUTS}


def test_a_store_that_is_not_empty_stays_as_it_is_unless_told(backend: Backend) -> None:
    async def see() -> None:
        store = await backend.open()
        before = await store.change(Put("mine", b"1"), Put("b", b"1"))
        with pytest.raises(ConflictError, match=r"is not empty .it has b.: .* or --replace"):
            await store.fill([Put("a", b"2")])
        entries, revision = await store.list("")
        assert ([entry.key for entry in entries], revision) == (["b", "mine"], before)
        async with Watching(store, "", before) as watching:
            await store.fill([Put("a", b"2"), Put("b", b"2")], replace=True)
            events = await watching.until(lambda events: len(events) == 3)
        assert sorted((event.key, event.value) for event in events if event.value) == [
            ("a", b"2"),
            ("b", b"2"),
        ]
        entries, _ = await store.list("")
        assert [(entry.key, entry.value) for entry in entries] == [("a", b"2"), ("b", b"2")]
        await store.close()

    asyncio.run(see())


def test_an_export_is_of_one_moment(backend: Backend) -> None:
    async def see() -> None:
        store = await backend.open()
        await store.fill([Put(f"n/{i:04}", b"old") for i in range(1300)])
        seen: list[Put] = []
        async for put in store.everything():
            if len(seen) == 10:
                changes: list[Change] = [Put(f"n/{i:04}", b"new") for i in range(1200, 1300)]
                await store.change(*changes)
                await store.change(Put("n/0600+", b"new"))
            seen.append(put)
        assert seen == [Put(f"n/{i:04}", b"old") for i in range(1300)]
        await store.close()

    asyncio.run(see())


def test_an_import_into_a_file_is_made_whole_or_not(tmp_path: Path) -> None:
    async def see() -> None:
        store = await open_store(f"sqlite://{tmp_path}/cluster.db")
        puts = [Put("a", b""), Put("b", 5)]  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            await store.fill(puts)
        assert await store.list("") == ([], 0)
        await store.fill([Put("a", b"")])
        await store.close()

    asyncio.run(see())


def test_an_import_into_etcd_that_stops_half_way_says_what_to_do(
    etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd.ctl("del", "", "--from-key=true")
    change = EtcdStore.change
    calls = 0

    async def fail_later(self: EtcdStore, *changes: Change) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise UnavailableError("etcd is gone")
        return await change(self, *changes)

    async def see() -> None:
        store: Store = await open_store(etcd.url)
        with monkeypatch.context() as patch:
            patch.setattr(EtcdStore, "change", fail_later)
            with pytest.raises(UnavailableError, match=r"^256 of 1202 changes were made, .*repeat"):
                await store.fill(PUTS)
        assert len((await store.list(""))[0]) == 256
        await store.fill(PUTS, replace=True)
        assert len((await store.list(""))[0]) == 1202
        await store.close()

    asyncio.run(see())


def test_keys_whose_time_is_over_are_left_out() -> None:
    text = exported([Put("a", b"1"), Put("b", b"2", seconds=60)], now=1000)
    assert transfer.read(io.BytesIO(text), "it", 1050) == [
        Put("a", b"1"),
        Put("b", b"2", seconds=10),
    ]
    assert transfer.read(io.BytesIO(text), "it", 1061) == [Put("a", b"1")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: b"", "it is not whole"),
        (lambda text: b"hello\n", "it is no"),
        (lambda text: b"[]\n" + text, "it is no export of a cluster"),
        (lambda text: text.replace(b'"cloud-toa cluster"', b'"others"'), "is no export"),
        (lambda text: text.replace(b'"version":1', b'"version":2'), "has version 2"),
        (lambda text: b"".join(text.splitlines(True)[:-1]), "it is not whole"),
        (lambda text: b"".join(text.splitlines(True)[:2]), "it is not whole"),
        (lambda text: text[:-5], "it is not whole"),
        (lambda text: text.replace(b"/2", b"/9"), "it is not whole"),
        (lambda text: text.replace(b'"key":"n/1"', b'"kex":"n/1"'), "it, line 3, is no key"),
        (lambda text: b"".join(sorted(text.splitlines(True))), "it"),
        (lambda text: text + text, "it"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(
    change: Callable[[bytes], bytes], words: str
) -> None:
    text = exported([Put(f"n/{i}", b"%d" % i) for i in range(5)])
    assert len(transfer.read(io.BytesIO(text), "it", 0)) == 5
    with pytest.raises(ToaError, match=words) as refusal:
        transfer.read(io.BytesIO(change(text)), "it", 0)
    assert "\n" not in str(refusal.value)


def test_the_command_names_what_is_wrong(tmp_path: Path) -> None:
    file, text = tmp_path / "saved", tmp_path / "text"
    store = f"sqlite://{tmp_path}/none.db"
    missing = f"cloud-toa: there is no {tmp_path}/none.db: name the file of a store\n"
    assert command("export", str(file), "--store", store) == (2, missing)
    assert list(tmp_path.iterdir()) == [], "nothing is left"
    file.write_text("of yesterday")
    assert command("export", str(file), "--store", store) == (2, missing)
    assert file.read_text() == "of yesterday"
    code, said = command("import", f"{tmp_path}/none", "--store", store)
    assert (code, said) == (
        2,
        f"cloud-toa: {tmp_path}/none can't be read: No such file or directory\n",
    )
    text.write_text("hello")
    code, said = command("import", str(text), "--store", store)
    assert code == 2
    assert said.startswith(f"cloud-toa: {text} is no export of a cluster: ")
    assert set(tmp_path.iterdir()) == {file, text}, "no store was made for it"
    asyncio.run(fill(store, []))
    code, said = command("export", f"{tmp_path}/no/such", "--store", store)
    assert code == 2
    assert "/no/such can't be written: No such file or directory" in said
