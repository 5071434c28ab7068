# SPDX-License-Identifier: Apache-2.0
"""control.py: every line and refusal without sockets, then real sockets, files and users."""

import asyncio
import contextlib
import errno
import grp
import logging
import os
import resource
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa import control
from cloud_toa.control import ControlServer, Session
from cloud_toa.errors import ToaError
from cloud_toa.option import Client, encode
from cloud_toa.ports import SIZE, PortTable
from tests.clients import CLIENT_V4, CLIENT_V6

NOW = 5 * 10**18
NOBODY = 65534
MEMORY = bytearray(SIZE)
V4 = encode(CLIENT_V4)
WRITE = "write add:PORT:CLIENT, del:PORT or quit:0"
CLIENTS = "write 192.0.2.7:50123 or [2001:db8::7]:50123"


class Talk(Session):
    """A session of its own table, and what it logged."""

    def __init__(self, uid: int = NOBODY, kinds: tuple[int, int] = (254, 254)) -> None:
        self.memory = bytearray(SIZE)
        self.table = PortTable(self.memory)
        self.log: list[str] = []
        self.counters = {"added": 0, "removed": 0, "refused": 0}
        super().__init__(
            self.table,
            kinds,
            uid,
            log=self.log.append,
            counters=self.counters,
            now=lambda: NOW,
        )

    def take(self, port: int, isn: int | None = 1) -> bytes:
        return self.table.take(port, 0, isn, NOW)


def say(line: bytes) -> str:
    """The reply to a line of a peer that opened with hello:2."""
    talk = Talk()
    assert talk.receive(b"hello:2\n") == ["ok"]
    [reply] = talk.receive(line + b"\n")
    assert talk.counters["refused"] == len(talk.log) == (reply != "ok")
    if reply != "ok":
        assert reply == f"error: {talk.log[0]}"
        assert not any(talk.memory)
        assert talk.receive(f"add:1:{CLIENT_V4}\n".encode()) == ["ok"]
    return reply


@pytest.mark.parametrize(
    ("text", "client"),
    [
        (str(CLIENT_V4), CLIENT_V4),
        (str(CLIENT_V6), CLIENT_V6),
        ("[::ffff:203.0.113.222]:37709", CLIENT_V4),
        ("203.0.113.222:1", CLIENT_V4._replace(port=1)),
        ("[2001:DB8::EC99:108D:DB5B:5FAB]:65535", CLIENT_V6._replace(port=65535)),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_add(text: str, client: Client, ending: str) -> None:
    talk = Talk(kinds=(200, 253))
    assert talk.receive(f"hello:2{ending}add:40001:{text}{ending}".encode()) == ["ok", "ok"]
    assert talk.take(40001, isn=None) == b""
    assert talk.take(40001) == encode(client, 200, 253)
    assert talk.counters == {"added": 1, "removed": 0, "refused": 0}
    assert talk.memory[17] == 0


def test_an_entry_of_a_peer_without_hello_is_late_and_unanswered() -> None:
    talk = Talk()
    assert talk.receive(f"add:40001:{CLIENT_V4}\ndel:40002\nnonsense\n".encode()) == []
    assert talk.memory[17] == 1
    assert talk.take(40001, isn=None) == V4
    assert talk.counters == {"added": 1, "removed": 0, "refused": 1}


def test_a_peer_of_another_version_is_answered_and_its_entries_are_late() -> None:
    talk = Talk()
    assert talk.receive(f"hello:3\nadd:40001:{CLIENT_V4}\n".encode()) == [
        "error: version '3' is not spoken here: open with hello:2",
        "ok",
    ]
    assert talk.memory[17] == 1
    assert talk.take(40001, isn=None) == V4


def test_hello_is_the_first_line_or_none() -> None:
    talk = Talk()
    assert talk.receive(b"del:1\nhello:2\ndel:1\n") == []
    assert talk.log == ["'hello:2' comes too late: hello is the first line or none"]
    assert say(b"hello:2") == "error: 'hello:2' comes too late: hello is the first line or none"


def test_del() -> None:
    talk = Talk()
    assert talk.receive(f"hello:2\nadd:40001:{CLIENT_V4}\n".encode()) == ["ok", "ok"]
    assert talk.receive(b"del:40001\ndel:40001\ndel:40002\n") == ["ok"] * 3
    assert talk.take(40001) == b""
    assert talk.counters == {"added": 1, "removed": 1, "refused": 0}


NO_CLIENT = f"is no address with a port: {CLIENTS}"
NO_PORT = f"has no port from 1 to 65535: {CLIENTS}"
UNUSABLE = "can't be a client: it needs a unicast address and a port"
INTERFACE = "names an interface: leave out % and what follows"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", f"'' has no colon: {WRITE}"),
        (b"add", f"'add' has no colon: {WRITE}"),
        (b"\x1b[2Jx", f"'\\x1b[2Jx' has no colon: {WRITE}"),
        (b"\xff\xfe:", f"b'\\xff\\xfe:' is not UTF-8: {WRITE}"),
        (b"get:1", f"'get' is not known: {WRITE}"),
        (b"ADD:1:192.0.2.1:1", f"'ADD' is not known: {WRITE}"),
        (b" del:1", f"' del' is not known: {WRITE}"),
        (b"del:1\r\r", "local port '1\\r' is none: write 1 to 65535, such as 40001"),
        (b"quit:", "'quit:' means nothing: write quit:0"),
        (b"quit:1", "'quit:1' means nothing: write quit:0"),
        (b"quit:00", "'quit:00' means nothing: write quit:0"),
        (b"quit:0", "quit:0 is not for user 65534: send it as user 0"),
        *(
            (
                verb % port,
                f"local port {port.decode()!r} is none: write 1 to 65535, such as 40001",
            )
            for verb in (b"del:%s", b"add:%s:192.0.2.1:1")
            for port in (
                *(b"", b"0", b"65536", b"-1", b"+1", b"01", b" 1", b"1 ", b"1_0", b"0x1", b"1e3"),
                *("١".encode(), "²".encode(), b"9" * 60),
            )
        ),
        *(
            (b"add:1:" + client.encode(), f"client {client!r} {reason}")
            for client, reason in [
                ("", NO_CLIENT),
                ("192.0.2.1", NO_CLIENT),
                ("192.0.2.1:", NO_PORT),
                ("192.0.2.1:0", NO_PORT),
                ("192.0.2.1:65536", NO_PORT),
                ("192.0.2.1:080", NO_PORT),
                ("192.0.2.1:-1", NO_PORT),
                ("192.0.2.1:80 ", NO_PORT),
                ("192.0.2.1:80:80", NO_CLIENT),
                ("192.0.2.01:80", NO_CLIENT),
                ("192.0.2.256:80", NO_CLIENT),
                ("192.0.2:80", NO_CLIENT),
                ("3221225985:80", NO_CLIENT),
                ("[192.0.2.1]:80", NO_CLIENT),
                ("2001:db8::1:80", NO_CLIENT),
                ("[2001:db8::1]", NO_CLIENT),
                ("[2001:db8::1]80", NO_CLIENT),
                ("[2001:db8::1]:", NO_PORT),
                ("[2001:db8::1]:0", NO_PORT),
                ("[[2001:db8::1]]:80", NO_CLIENT),
                ("[]:80", NO_CLIENT),
                ("[2001:db8::1/64]:80", NO_CLIENT),
                ("example.org:80", NO_CLIENT),
                ("[fe80::1%eth0]:80", INTERFACE),
                ("[fe80::1%]:80", INTERFACE),
            ]
        ),
        *(
            (b"add:1:" + client.encode(), f"{client} {UNUSABLE}")
            for client in (
                *("0.0.0.0:80", "255.255.255.255:80", "224.0.0.1:80"),
                *("[::]:80", "[ff02::1]:80", "[::ffff:e000:1]:80"),
            )
        ),
        (b"hello:", "'hello:' comes too late: hello is the first line or none"),
    ],
)
def test_refused(line: bytes, reason: str) -> None:
    assert say(line) == f"error: {reason}"


@pytest.mark.parametrize("version", ["", "1", "02", "2 ", "x"])
def test_version_refused(version: str) -> None:
    [reply] = Talk().receive(f"hello:{version}\n".encode())
    assert reply == f"error: version {version!r} is not spoken here: open with hello:2"


def test_a_reason_is_no_longer_than_a_terminals_few_lines() -> None:
    for line in (b"x" * 256, b"\xff" * 256, b"del:" + b"9" * 252, b"add:1:" + b"\x01" * 250):
        assert len(say(line)) < 200


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_longest_line(ending: bytes) -> None:
    talk = Talk()
    talk.receive(b"hello:2\n")
    assert talk.receive(b"x" * 256 + ending) == [f"error: {'x' * 256!r:.99} has no colon: {WRITE}"]
    too_long = f"error: {b'x' * 40!r} begins a line of more than 256 bytes: {WRITE}"
    assert talk.receive(b"x" * 257 + ending) == [too_long]
    assert talk.receive(b"x" * 256 + b"\r") == []
    assert talk.receive(b"y") == [too_long]
    assert talk.receive(b"add:1:192.0.2.1:1" * 1000) == []
    assert talk.receive(ending + b"del:1" + ending) == ["ok"]
    assert talk.counters["added"] == 0


def test_half_a_line_is_not_executed() -> None:
    talk = Talk()
    talk.receive(b"hello:2\nadd:40001:192.0.2.1:56")
    talk.end()
    talk.end()
    assert not any(talk.memory)
    assert talk.log == ["b'add:40001:192.0.2.1:56' has no newline: it was not executed"]
    assert talk.counters["refused"] == 1


def test_nothing_is_logged_for_a_peer_that_ends_well() -> None:
    talk = Talk()
    talk.receive(b"hello:2\ndel:1\n")
    talk.end()
    assert talk.log == []


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_quit(uid: int) -> None:
    talk = Talk(uid)
    assert talk.receive(b"hello:2\n") == ["ok"]
    assert not talk.quit
    assert talk.receive(b"quit:0\n") == ["ok"]
    assert talk.quit


def test_quit_is_for_the_servers_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own, other, root = Talk(1000), Talk(1001), Talk(0)
    for talk in (own, other, root):
        assert talk.receive(b"quit:0\n") == []
    assert (own.quit, other.quit, root.quit) == (True, False, True)
    assert other.log == ["quit:0 is not for user 1001: send it as user 0 or 1000"]


# Mostly lines that mean something, whole and cut.
words = st.sampled_from(
    [
        *(b"hello:2\n", b"hello:2\r\n", b"hello:3\n", b"add:", b"del:1\n", b"quit:0\n", b"\n"),
        *(b"add:1:192.0.2.1:80\n", b"add:1:[2001:db8::1]:80\n", b"1:", b"\r", b"x" * 200, b"\xff"),
        *(b"[2001:db8::1]:80", b"192.0.2.1:80", b"[fe80::1%1]:80\n", b"y" * 57, b"::", b"\0"),
    ]
)
streams = st.lists(words | st.binary(max_size=20), max_size=20).map(b"".join)


def chunks(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    ends = sorted(cut % (len(data) + 1) for cut in cuts)
    for start, end in zip([0, *ends], [*ends, len(data)], strict=True):
        yield data[start:end]


@given(streams, st.lists(st.integers(0, 5000), max_size=12), st.booleans(), st.sampled_from([0, 1]))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int], hello: bool, uid: int) -> None:
    if hello:
        data = b"hello:2\n" + data
    MEMORY[:80] = bytes(80)
    ways = []
    for pieces in ([data], chunks(data, cuts), (bytes((byte,)) for byte in data)):
        MEMORY[:80] = bytes(80)
        log: list[str] = []
        counters = {"added": 0, "removed": 0, "refused": 0}
        session = Session(
            PortTable(MEMORY),
            (254, 254),
            uid,
            log=log.append,
            counters=counters,
            now=lambda: NOW,
        )
        replies = [reply for piece in pieces for reply in session.receive(piece)]
        session.end()
        ways.append((replies, log, counters, session.quit, bytes(MEMORY[:80])))
    assert ways[0] == ways[1] == ways[2]
    replies, log, counters, quits, _ = ways[0]
    assert all(len(text.splitlines()) == 1 and text.isprintable() for text in replies + log)
    assert len(log) == counters["refused"]
    if quits:
        assert uid == 0
    *lines, rest = data.split(b"\n")
    if data.startswith(b"hello:") and lines:
        assert len(replies) == len(lines) + (len(rest.removesuffix(b"\r")) > 256)
    else:
        assert replies == []


# The sockets.


class Desk:
    """A running server, and how to talk to it."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.path = path
        self.table = PortTable(bytearray(SIZE))
        self.quit = asyncio.Event()
        self.server = ControlServer(path, self.table, (254, 254), group, self.quit.set)
        self.counters = self.server.counters

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def say(self, text: bytes) -> bytes:
        """Everything that a peer is answered that says this and no more."""
        reader, writer = await self.open()
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(path: Path, group: str | None = None) -> AsyncIterator[Desk]:
    desk = Desk(path, group)
    await desk.server.start()
    try:
        yield desk
    finally:
        await desk.server.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # pytest's own directories let no other user in
        yield Path(directory) / "control.sock"


def waiting(desk: Desk) -> int:
    return desk.table.count(0)


def test_conversation(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            reader, writer = await desk.open()
            writer.write(b"hello:2\n")
            assert await reader.readline() == b"ok\n"
            writer.write(b"add:40001:192.0.2.1:5678\n")
            assert await reader.readline() == b"ok\n"
            assert waiting(desk) == 1
            assert desk.counters["peers"] == 1
            writer.write(b"what\xff\n")
            assert (await reader.readline()).startswith(b"error: b'what\\xff' is not UTF-8: ")
            writer.close()
            await writer.wait_closed()
            await desk.until(lambda: desk.counters["peers"] == 0)
            assert desk.counters == {
                "added": 1,
                "removed": 0,
                "refused": 1,
                "peers": 0,
                "turned_away": 0,
            }

    asyncio.run(main())


def test_every_line_of_a_peer_that_is_gone_is_executed(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                lines = (f"add:{port}:192.0.2.1:{port}\n" for port in range(1, 5001))
                peer.setblocking(False)
                peer.sendall("".join(lines).encode()[:100_000])
            await desk.until(lambda: desk.counters["refused"] == 1)  # the half line
            assert waiting(desk) == desk.counters["added"] > 3000

    asyncio.run(main())


def test_bad_lines_do_not_end_the_connection(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            text = b"hello:2\n" + b"x" * 100_000 + b"\n\xff\n\ndel:1\nadd:1:192.0.2.1:56"
            answer = (await desk.say(text)).decode().splitlines()
            assert [line.partition(":")[0] for line in answer] == [
                *("ok", "error", "error", "error", "ok")
            ]
            await desk.until(lambda: desk.counters["refused"] == 4)
            assert waiting(desk) == 0

    asyncio.run(main())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_ten_thousand_peers_one_after_the_other(path: Path) -> None:
    def peers() -> None:
        for number in range(10_000):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(path))
                if number % 2:
                    peer.sendall(b"hello:2\nadd:40001:192.0.2.1:5678\n")
                    while not peer.recv(100).endswith(b"ok\n"):
                        pass
                else:
                    peer.sendall(b"add:40001:192.0.2.1:5678\nadd:4000")

    async def main() -> None:
        files = open_files()
        async with running(path) as desk:
            await asyncio.to_thread(peers)
            await desk.until(lambda: desk.counters["peers"] == 0)
            assert await desk.say(b"hello:2\n") == b"ok\n"
            await desk.until(lambda: desk.counters["added"] == 10_000)
            await desk.until(lambda: desk.counters["refused"] == 5_000)
        assert desk.counters["peers"] == 0
        assert open_files() <= files

    asyncio.run(main())


def test_a_peer_that_never_reads_waits_and_holds_up_nobody(path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with running(path) as desk:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                await loop.sock_connect(peer, str(path))
                await loop.sock_sendall(peer, b"hello:2\n")
                flood = asyncio.create_task(loop.sock_sendall(peer, b"\n" * 20_000_000))
                [mute] = (await joined(desk))._peers
                await desk.until(lambda: not mute.transport.is_reading())
                for _ in range(100):
                    assert await desk.say(b"hello:2\ndel:1\n") == b"ok\nok\n"
                assert not flood.done()
                assert mute.transport.get_write_buffer_size() < 2**20
                refused = desk.counters["refused"]
                while desk.counters["refused"] == refused:  # read now, and it goes on
                    assert await loop.sock_recv(peer, 2**16)
                flood.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await flood

    async def joined(desk: Desk) -> ControlServer:
        await desk.until(lambda: desk.counters["peers"] == 1)
        return desk.server

    asyncio.run(main())


def test_a_peer_that_does_not_wait_for_its_replies(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            for _ in range(100):
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.connect(str(path))
                    peer.sendall(b"hello:2\n" * 1000)
            await desk.until(lambda: desk.counters["peers"] == 0)
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())


def test_peers_beyond_the_limit_are_turned_away(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "MAX_PEERS", 3)

    async def main() -> None:
        async with running(path) as desk:
            kept = [await desk.open() for _ in range(3)]
            await desk.until(lambda: desk.counters["peers"] == 3)
            reader, writer = await desk.open()
            writer.write(b"add:1:192.0.2.1:1\n")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert (desk.counters["peers"], desk.counters["turned_away"]) == (3, 1)
            kept.pop()[1].close()
            await desk.until(lambda: desk.counters["peers"] == 2)
            assert await desk.say(b"hello:2\n") == b"ok\n"
            assert waiting(desk) == 0
        for reader, writer in kept:
            assert await reader.read() == b""  # close() lets all peers go
            writer.close()

    asyncio.run(main())
    reason = "turned away: 3 peers are connected already"
    assert caplog.messages == [f"pid {os.getpid()}: {reason}"]


def test_half_of_the_files_is_left_to_the_rest_of_the_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def limit(soft: int) -> int:
        monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, soft))
        async with running(path) as desk:
            return desk.server._limit

    assert asyncio.run(limit(1024)) == 512
    assert asyncio.run(limit(10_000)) == 1024
    assert asyncio.run(limit(resource.RLIM_INFINITY)) == 1024


def test_the_log_can_not_be_flooded(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path) as desk:
            await desk.say(b"\x1b[31m\n" * 25_000)
            await desk.until(lambda: desk.counters["refused"] == 25_000)

    asyncio.run(main())
    line = f"pid {os.getpid()}: '\\x1b[31m' has no colon: {WRITE}"
    lines = [text for text in caplog.messages if text == line]
    others = [text for text in caplog.messages if text != line]
    left_out = [int(text.split()[0]) for text in others]
    assert others == [f"{number} more refusals in a second are left out" for number in left_out]
    assert len(lines) + sum(left_out) == 25_000
    assert len(lines) == 10 * len(left_out) < 100
    assert {record.name for record in caplog.records} == {"cloud_toa.control"}
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_the_log_speaks_again_after_a_second(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path) as desk:
            await desk.say(b"\n" * 12)
            await desk.until(lambda: "2 more refusals in a second are left out" in caplog.messages)
            await desk.say(b"\n")
            await desk.until(lambda: len(caplog.messages) == 12)

    asyncio.run(main())


# The file.


def mode(path: Path) -> tuple[str, int, int]:
    found = path.lstat()
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_file(path: Path, umask: int) -> None:
    group = grp.getgrgid(NOBODY)

    async def main() -> None:
        async with running(path, group.gr_name):
            assert mode(path) == ("srw-rw----", 0, NOBODY)
        assert not path.exists()
        async with running(path):
            assert mode(path) == ("srw-rw----", 0, 0)

    before = os.umask(umask)
    try:
        asyncio.run(main())
    finally:
        os.umask(before)
    assert list(path.parent.iterdir()) == []


def test_without_a_group_the_directorys_does_not_count(path: Path) -> None:
    os.chown(path.parent, -1, NOBODY)
    path.parent.chmod(0o2755)

    async def main() -> None:
        async with running(path):
            assert mode(path) == ("srw-rw----", 0, 0)

    asyncio.run(main())


def test_nobody_can_connect_before_owner_and_mode_are_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def probed(real: Callable[..., None]) -> Callable[..., None]:
        def probe(*arguments: object, **more: object) -> None:
            with socket.socket(socket.AF_UNIX) as peer:
                tried.append(peer.connect_ex(str(path)))
            real(*arguments, **more)

        return probe

    monkeypatch.setattr(os, "chown", probed(os.chown))
    monkeypatch.setattr(os, "chmod", probed(os.chmod))

    async def main() -> None:
        async with running(path) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())
    assert tried == [errno.ECONNREFUSED] * 2


def refusal(path: Path, group: str | None = None) -> str:
    async def main() -> None:
        async with running(path, group):
            pass

    with pytest.raises(ToaError) as refused:
        asyncio.run(main())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_socket_of_a_dead_process_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()

    async def main() -> None:
        async with running(path) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_live_socket_is_left_alone(path: Path, kind: socket.SocketKind) -> None:
    in_use = f"{path} is in use: end the process that has it, or use another path"
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(str(path))
        if kind == socket.SOCK_STREAM:
            live.listen(0)
        for _ in range(3):  # until its backlog is full, which must not hold us up
            assert refusal(path) == in_use
        assert path.is_socket()


def test_two_servers_at_one_path(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            with pytest.raises(ToaError, match="is in use"):
                async with running(path):
                    pass
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    reason = f"{path} is not a socket: remove it, or use another path"
    path.write_text("kept")
    assert refusal(path) == reason
    assert path.read_text() == "kept"
    path.unlink()
    path.symlink_to("elsewhere")
    assert refusal(path) == reason
    assert path.is_symlink()
    path.unlink()
    path.mkdir()
    assert refusal(path) == reason


def test_no_directory(path: Path) -> None:
    missing = path.parent / "missing"
    reason = f"{missing} is no directory: make it, or use another path"
    assert refusal(missing / "control.sock") == reason
    missing.touch()
    assert refusal(missing / "control.sock") == reason


def test_long_path(path: Path) -> None:
    room = 107 - len(os.fsencode(path.parent)) - 1

    async def main() -> None:
        async with running(path.with_name("é" * (room // 2) + "x" * (room % 2))) as desk:
            assert await desk.say(b"hello:2\n") == b"ok\n"

    asyncio.run(main())
    longer = path.with_name("é" * (room // 2) + "x" * (room % 2 + 1))
    assert refusal(longer) == f"{longer} is too long for a socket: use a path of 107 bytes at most"


def test_unknown_group(path: Path) -> None:
    assert refusal(path, "no-such") == "group 'no-such' does not exist: name one that does"
    assert not path.exists()


def test_nothing_stays_of_a_start_that_the_kernel_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chown(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    reason = "can't be made a socket: Operation not permitted: use another path or group"
    assert refusal(path) == f"{path} {reason}"
    assert not path.exists()


def test_close_leaves_what_others_put_there(path: Path) -> None:
    async def main() -> None:
        async with running(path) as desk:
            path.unlink()
            path.write_text("kept")
        await desk.server.close()
        assert path.read_text() == "kept"
        path.unlink()
        async with running(path):
            path.unlink()
        async with running(path) as desk:
            pass
        await desk.server.start()  # and again
        assert await desk.say(b"hello:2\n") == b"ok\n"
        await desk.server.close()

    asyncio.run(main())


# The users.

PEER = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(b"hello:2\\nquit:0\\n")
peer.shutdown(socket.SHUT_WR)
print(b"".join(iter(lambda: peer.recv(1000), b"")).decode(), end="")
"""


def ask_to_quit(path: Path, uid: int, gid: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PEER, str(path)],
        user=uid,
        group=gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_quit_is_for_root(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path, grp.getgrgid(NOBODY).gr_name) as desk:
            peer = await asyncio.to_thread(ask_to_quit, path, 1234, NOBODY)
            reason = "quit:0 is not for user 1234: send it as user 0"
            assert peer.stdout == f"ok\nerror: {reason}\n", peer.stderr
            assert [text.partition(": ")[2] for text in caplog.messages] == [reason]
            assert not desk.quit.is_set()

            peer = await asyncio.to_thread(ask_to_quit, path, 1234, 1234)
            assert "PermissionError" in peer.stderr  # not in the group

            peer = await asyncio.to_thread(ask_to_quit, path, 0, 0)
            assert peer.stdout == "ok\nok\n", peer.stderr
            await asyncio.wait_for(desk.quit.wait(), 10)

    asyncio.run(main())


def test_a_peer_is_named_by_its_process(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running(path) as desk:
            await desk.say(b"add:1:192.0.2.1:56")
            await desk.until(lambda: bool(caplog.messages))

    asyncio.run(main())
    reason = "b'add:1:192.0.2.1:56' has no newline: it was not executed"
    assert caplog.messages == [f"pid {os.getpid()}: {reason}"]
