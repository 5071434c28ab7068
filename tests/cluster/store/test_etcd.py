# SPDX-License-Identifier: Apache-2.0
"""What is etcd's own: leases, history, a quota, and that it asks who we are."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.cluster.store import (
    CompactedError,
    Entry,
    Put,
    Store,
    UnavailableError,
)
from cloud_toa.cluster.store.etcd import ROOT
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.store.etcd_members import Etcd, run
from tests.cluster.store.watching import Watching
from tests.netns.authority import Authority


def test_a_watch_of_an_etcd_that_was_set_up_anew_says_so(etcd: Etcd) -> None:
    async def test(store: Store) -> None:
        _, revision = await store.list("")
        with pytest.raises(CompactedError):
            await asyncio.wait_for(anext(aiter(store.watch("", revision + 1000))), 10)

    run(etcd, test)


def test_leases_are_shared_and_do_not_pile_up(etcd: Etcd) -> None:
    def leases() -> int:
        return int(etcd.ctl("lease", "list").split()[1])

    async def test(store: Store) -> None:
        before = leases()
        for _ in range(3):
            await asyncio.gather(
                *(store.change(Put(f"alive/{i}", b"", seconds=45)) for i in range(100))
            )
            await asyncio.gather(
                *(store.change(Put(f"logs/{i}", b"", seconds=7 * 86400)) for i in range(100))
            )
        assert leases() - before <= 4 + 1, "45 s: one for 2 s of puts; 7 days: one for 9 hours"
        await store.change(*(Put(f"many/{i}", b"", seconds=1e6) for i in range(100)))
        answer = json.loads(etcd.ctl("get", ROOT + "alive/1", "-w", "json"))
        left = json.loads(
            etcd.ctl("lease", "timetolive", f"{answer['kvs'][0]['lease']:x}", "-w", "json")
        )
        assert 43 <= left["ttl"] <= 48

    run(etcd, test)


def test_a_lease_that_is_gone_is_replaced(etcd: Etcd) -> None:
    async def test(store: Store) -> None:
        await store.change(Put("a", b"", seconds=500))
        answer = json.loads(etcd.ctl("get", ROOT + "a", "-w", "json"))
        etcd.ctl("lease", "revoke", f"{answer['kvs'][0]['lease']:x}")
        await store.change(Put("b", b"", seconds=500))
        assert (await store.get("a"), (await store.get("b")) is not None) == (None, True)

    run(etcd, test)


def test_changes_of_others_in_the_same_etcd_are_not_ours(etcd: Etcd) -> None:
    async def test(store: Store) -> None:
        _, since = await store.list("")
        etcd.ctl("put", "/cloud-to", "x")
        etcd.ctl("put", "/cloud-toa0", "x")
        async with Watching(store, "", since) as watching:
            await store.change(Put("a", b""))
            assert [event.key for event in await watching.until_key("a")] == ["a"]
        assert "a" in [entry.key for entry in (await store.list(""))[0]]
        assert all(not entry.key.startswith("/") for entry in (await store.list(""))[0])

    run(etcd, test)


def test_history_is_forgotten_after_a_while(etcd: Etcd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_toa.cluster.store.etcd._COMPACTING_SECONDS", 0.1)
    monkeypatch.setattr("cloud_toa.cluster.store.etcd.HISTORY_SECONDS", 0.3)

    async def test(store: Store) -> None:
        first = await store.change(Put("a", b""))
        await store.change(Put("a", b""))
        async with asyncio.timeout(10):
            while True:
                await store.change(Put("b", b""))
                try:
                    async for _ in store.watch("a", first):
                        break
                except CompactedError:
                    return

    run(etcd, test)


def test_an_etcd_that_is_full_keeps_what_it_has() -> None:
    full = Etcd(members=1, options=["--quota-backend-bytes", "3000000"])

    async def put(store: Store, kept: list[int]) -> None:
        while len(kept) < 20:
            key = f"a/{len(kept):02}"
            kept.append(await store.change(Put(key, b"x" * 500_000, expected=0)))

    async def test(store: Store) -> None:
        kept: list[int] = []
        with pytest.raises(UnavailableError, match=r"full; read .* again .*defrag"):
            await put(store, kept)
        assert 1 < len(kept) < 20
        entries, _ = await store.list("")
        # What has filled it may be there, though it was refused.
        assert [entry.revision for entry in entries] in (kept, [*kept, kept[-1] + 1])
        with pytest.raises(UnavailableError, match="full"):
            await store.change(Put("alive", b"", seconds=45))

    try:
        full.wait()
        run(full, test)
    finally:
        full.close()


FULL = b'{"message":"etcdserver: mvcc: database space exceeded","code":8}'


@pytest.mark.parametrize(
    ("answer", "read", "changed"),
    [
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 13\r\n\r\n<p>\nsorry</p>",
            "does not answer now: .*: <p> sorry</p>",
            "did not say whether it kept the change .<p> sorry</p>.",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "refused it, and nothing was changed: HTTP status 404",
            "refused it, and nothing was changed: HTTP status 404",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "no answer of an etcd's gateway",
            "no answer of an etcd's gateway",
        ),
        (
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n%s" % (len(FULL), FULL),
            "database is full",
            "database is full; read the change again to see whether it was kept",
        ),
        (b"", "ended the connection", "did not say whether it kept the change"),
    ],
    ids=["proxy", "web", "other", "full", "silent"],
)
def test_what_is_no_etcd_is_named(answer: bytes, read: str, changed: str) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def see() -> None:
        async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            store = await open_store(f"etcd://127.0.0.1:{port}")
            with pytest.raises(UnavailableError, match=read):
                await store.get("a")
            with pytest.raises(UnavailableError, match=changed):
                await store.change(Put("a", b""))
            await store.close()

    asyncio.run(see())


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Etcd]:
    """One that is asked by TLS with a certificate of ours, and knows the user ``toa``."""
    authority = Authority(tmp_path)
    # As a client, too: the gateway shows it to its own member.
    certificate, key = authority.issue("localhost")
    authority.issue("toa", subject="/O=toa")
    authority.issue("named")
    (tmp_path / "password").write_text("first\n")
    etcd = Etcd(
        members=1,
        host="localhost",
        tls=["--cacert", authority.certificate, "--cert", certificate, "--key", key],
        options=[
            *("--cert-file", certificate, "--key-file", key, "--client-cert-auth"),
            *("--trusted-ca-file", authority.certificate, "--auth-token-ttl", "1"),
        ],
    )
    try:
        etcd.wait()
        for line in (
            "user add root:root",
            "user grant-role root root",
            "role add toa",
            f"role grant-permission toa --prefix=true readwrite {ROOT}",
            "user add toa:first",
            "user grant-role toa toa",
            "user add stranger:first",
            "auth enable",
        ):
            etcd.ctl(*line.split())
        yield etcd
    finally:
        etcd.close()


def test_etcd_that_wants_a_certificate_and_a_password(
    locked: Etcd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    def files(certificate: str) -> str:
        return (
            f"ca={tmp_path}/authority.pem&cert={tmp_path}/{certificate}.crt"
            f"&key={tmp_path}/{certificate}.key&password_file={tmp_path}/password"
        )

    async def see() -> None:
        store = await open_store(f"etcd://toa@{locked.hosts}?{files('toa')}")
        first = await store.change(Put("a", b"1"), Put("b", b"1", seconds=60))
        async with Watching(store, "", first - 1) as watching:
            await watching.until_key("b")
            # The token is over, and there is another password.
            locked.ctl("--user", "root:root", "user", "passwd", "toa", said="second\nsecond\n")
            (tmp_path / "password").write_text("second\n")
            await asyncio.sleep(2.5)
            last = await store.change(Put("a", b"2", expected=first))
            assert (await store.get("a")) == Entry("a", b"2", last)
            await watching.until(lambda events: len(events) == 3)
        async with Watching(store, "", first) as late:
            await late.until_key("a")
        await store.close()
        stranger = await open_store(f"etcd://stranger@{locked.hosts}?{files('toa')}")
        with pytest.raises(UnavailableError, match="invalid user ID or password"):
            await stranger.get("a")
        (tmp_path / "password").write_text("first")
        for call in (stranger.get("a"), stranger.change(Put("a", b"")), first_of(stranger)):
            with pytest.raises(UnavailableError, match="etcdctl role grant-permission"):
                await call
        await stranger.close()
        unknown = await open_store(f"etcd://{locked.hosts}?ca={tmp_path / 'authority.pem'}")
        with pytest.raises(UnavailableError, match=r"certificate|ended the connection"):
            await unknown.get("a")
        await unknown.close()
        named = await open_store(f"etcd://toa@{locked.hosts}?{files('named')}")
        with pytest.raises(UnavailableError, match="common name"):
            await named.get("a")
        await named.close()
        other = Authority(tmp_path, "other")
        forged = await open_store(f"etcd://{locked.hosts}?ca={other.certificate}")
        with pytest.raises(UnavailableError, match="certificate verify failed"):
            await forged.get("a")
        await forged.close()

    async def first_of(store: Store) -> None:
        await anext(aiter(store.watch("", 0)))

    asyncio.run(see())
    assert "second" not in caplog.text.replace("seconds", "")
