# SPDX-License-Identifier: Apache-2.0
"""Clients that send a byte now and then, by the server of this process with little patience."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cloud_toa.cluster.api import patience, process
from cloud_toa.cluster.api.listening import Listening
from cloud_toa.cluster.model import api_tokens
from cloud_toa.cluster.model.values import By
from cloud_toa.cluster.store.opening import open_store
from tests.cluster.api.serving import PATIENCE, Serving, free_port, log_in, set_up

LITTLE = 0.5
HOST = b"Host: 127.0.0.1\r\n"
Scene = Callable[["Server"], Awaitable[None]]


class Server:
    def __init__(self, store: str) -> None:
        self.store = store
        self.listening = Listening("127.0.0.1", free_port())

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.listening.port)

    async def token(self) -> str:
        store = await open_store(self.store)
        _, text = await api_tokens.create(store, "viewer", "viewer", By("ann"))
        await store.close()
        return text


@pytest.fixture(params=[H11Protocol, HttpToolsProtocol])
def play(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Scene], None]:
    """Plays a scene with a server that speaks HTTP by each library that uvicorn may use."""
    monkeypatch.setattr(process, "AutoHTTPProtocol", request.param)
    monkeypatch.setattr(patience, "SECONDS", LITTLE)
    server = Server(f"sqlite://{tmp_path}/cluster.db")
    bind, listens = Listening.bind, asyncio.Event()

    def bind_and_tell(self: Listening) -> object:
        sock = bind(self)
        listens.set()
        return sock

    monkeypatch.setattr(Listening, "bind", bind_and_tell)

    async def main(scene: Scene) -> None:
        running = asyncio.create_task(process.run(server.store, server.listening))
        async with asyncio.timeout(PATIENCE):
            await listens.wait()
        try:
            async with asyncio.timeout(PATIENCE):
                await scene(server)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await running

    return lambda scene: asyncio.run(main(scene))


async def answer(reader: asyncio.StreamReader) -> bytes:
    """The head of an answer, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split()[0])
    return head + await reader.readexactly(length)


async def trickle(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, byte: bytes = b"x"
) -> bytes:
    """Send a byte now and then until the server has enough; what it said."""
    said = b""
    with suppress(ConnectionError):
        while True:
            writer.write(byte)
            with suppress(TimeoutError):
                data = await asyncio.wait_for(reader.read(1 << 16), 0.05)
                if not data:
                    break
                said += data
    writer.close()
    return said


@pytest.mark.parametrize(
    "begin",
    [
        b"G",
        b"GET /health HTTP/1.1\r\n" + HOST + b"X-Slow: ",
        b"POST /api/login HTTP/1.1\r\n" + HOST + b"Content-Length: 900000\r\n"
        b"Content-Type: application/json\r\n\r\n",
        b"POST /api/login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\n\r\n1000\r\n",
    ],
    ids=["line", "headers", "body", "chunk"],
)
def test_a_request_that_never_ends(play: Callable[[Scene], None], begin: bytes) -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.connect()
        writer.write(begin)
        assert b"HTTP/1.1 200" not in await trickle(reader, writer)

    play(scene)


def test_a_body_that_goes_on_after_the_answer(play: Callable[[Scene], None]) -> None:
    """As of somebody who is refused by the headers alone."""

    async def scene(server: Server) -> None:
        reader, writer = await server.connect()
        length = b"Content-Length: 900000\r\n\r\n"
        writer.write(b"PUT /api/settings HTTP/1.1\r\n" + HOST + length)
        assert b"HTTP/1.1 401" in await trickle(reader, writer)

    play(scene)


def test_nothing_at_all_is_said(play: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.connect()
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()

    play(scene)


def test_a_second_request_that_never_ends(play: Callable[[Scene], None]) -> None:
    async def scene(server: Server) -> None:
        reader, writer = await server.connect()
        whole = b"GET /health HTTP/1.1\r\n" + HOST
        writer.write(whole + b"\r\n")
        assert b"HTTP/1.1 200" in await answer(reader)
        writer.write(whole + b"X-Slow: ")
        assert await trickle(reader, writer) == b""

    play(scene)


def test_who_has_asked_may_wait(play: Callable[[Scene], None]) -> None:
    """Neither an idle connection that is kept nor an event stream is ended."""

    async def scene(server: Server) -> None:
        kept, keeper = await server.connect()
        whole = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
        for piece in (whole[:9], whole[9:-2], whole[-2:]):
            keeper.write(piece)
            await keeper.drain()
        assert b"HTTP/1.1 200" in await answer(kept)

        token = (await server.token()).encode()
        events, follower = await server.connect()
        authorized = b"Authorization: Bearer " + token + b"\r\n\r\n"
        while True:  # until the server has heard of the token
            follower.write(b"GET /api/events HTTP/1.1\r\n" + HOST + authorized)
            head = await events.readuntil(b"\r\n\r\n")
            if b"HTTP/1.1 200" in head:
                break
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            await events.readexactly(length)
        end = asyncio.get_running_loop().time() + 3 * LITTLE
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                while True:
                    assert await events.read(1 << 16)
        keeper.write(whole)
        assert b"HTTP/1.1 200" in await answer(kept)
        keeper.close()
        follower.close()

    play(scene)


def test_half_a_form_changes_nothing(fresh: Serving) -> None:
    """A connection that ends within the body; the log says so in a line, and no fault of ours."""

    async def send(cookie: str, form: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", fresh.port)
        writer.write(
            b"POST /settings/general HTTP/1.1\r\n" + HOST + f"Cookie: {cookie}\r\n".encode()
            + b"Content-Type: application/x-www-form-urlencoded\r\n"
            + f"Content-Length: {len(form) + 9}\r\n\r\n".encode() + form
        )  # fmt: skip
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    with set_up(fresh) as admin:
        log_in(admin, "ann")
        cookie = f"cloud-toa={admin.cookies['cloud-toa']}"
        asyncio.run(send(cookie, f"csrf={admin.headers['X-CSRF-Token']}&x=".encode()))
        fresh.wait_said("POST /settings/general 408")
        assert not fresh.said("Traceback")
