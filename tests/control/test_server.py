# SPDX-License-Identifier: Apache-2.0
"""server.py: conversations, crowds, and peers that would hold up the others."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
from pathlib import Path

import pytest

from cloud_toa.control import ControlServer, server
from tests.control.desk import Desk, running, waiting
from tests.control.talk import WRITE


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
    monkeypatch.setattr(server, "MAX_PEERS", 3)

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
