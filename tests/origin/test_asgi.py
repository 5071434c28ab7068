# SPDX-License-Identifier: Apache-2.0
import asyncio
import json
import logging
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import uvicorn

from cloud_toa import Client
from cloud_toa.origin import asgi, saved_syn
from tests.origin.addresses import LOOPBACK, V4, V6
from tests.origin.apps import for_asgi
from tests.origin.conftest import Connect, Listen, ask, gunicorn

SEEN = [str(V4.ip), V4.port]


@pytest.fixture
def open_listener(
    listen_in: Callable[[str], socket.socket], source: str
) -> Callable[[str], socket.socket]:
    """A function: a listener that knows clients from the source."""

    def open_listener(host: str) -> socket.socket:
        listener = listen_in(host)
        if source == "saved_syn":
            saved_syn.prepare(listener, LOOPBACK)
        return listener

    return open_listener


@contextmanager
def serving(listener: socket.socket, app: asgi.App = for_asgi, **options: Any) -> Iterator[None]:
    """uvicorn in a thread. Connections that come before it is up wait at the listener."""
    listener.listen()
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, **options))
    thread = Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def require(*modules: str) -> None:
    for module in modules:
        if module not in {"asyncio", "h11"}:
            pytest.importorskip(module)


def read_until_closed(conn: socket.socket) -> bytes:
    return b"".join(iter(lambda: conn.recv(4096), b""))


def upgrade(conn: socket.socket) -> Any:
    """Open a WebSocket and read the one text that the application sends over it."""
    conn.sendall(
        b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    received = b""
    # The server's frames: 0x81, length, text; then 0x88 asks us to close.
    while b"\x88" not in received.partition(b"\r\n\r\n")[2]:
        data = conn.recv(4096)
        assert data, received
        received += data
    frame = received.partition(b"\r\n\r\n")[2]
    assert frame[0] == 0x81
    return json.loads(frame[2 : 2 + frame[1]])


class TestUvicorn:
    @pytest.mark.parametrize(
        ("host", "client"),
        [
            ("127.0.0.1", V4),
            ("127.0.0.1", V6),
            ("::1", V6),
            ("::1", V4),
            ("::ffff:127.0.0.1", V4),
            ("::ffff:127.0.0.1", V6),
        ],
        ids=str,
    )
    def test_the_client_is_told(
        self,
        connect: Connect,
        open_listener: Callable[[str], socket.socket],
        source: str,
        host: str,
        client: Client,
    ) -> None:
        with open_listener(host) as listener, serving(listener):
            conns = [connect(listener.getsockname()[:2], named) for named in (client, None)]
            [seen, peer], without = ask(*conns)
            assert seen == [str(client.ip), client.port]
            if source == "saved_syn":
                assert peer == list(conns[0].getsockname()[:2])
            assert without == [list(conns[1].getsockname()[:2]), None]

    def test_a_source_that_is_not_trusted_names_no_client(
        self, connect: Connect, open_listener: Callable[[str], socket.socket]
    ) -> None:
        with open_listener("127.0.0.1") as listener, serving(listener):
            conn = connect(listener.getsockname(), V4, source="127.0.0.2")
            assert ask(conn) == [[list(conn.getsockname()), None]]

    def test_where_nothing_was_prepared_the_peer_is_told(
        self, connect: Connect, listen: Listen
    ) -> None:
        with listen("127.0.0.1") as listener, serving(listener):
            conn = connect(listener.getsockname(), V4)
            assert ask(conn) == [[list(conn.getsockname()), None]]

    @pytest.mark.parametrize("http", ["h11", "httptools"])
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_each_request_of_a_connection_has_the_client(
        self,
        connect: Connect,
        open_listener: Callable[[str], socket.socket],
        loop: str,
        http: str,
    ) -> None:
        require(loop, http)
        with open_listener("127.0.0.1") as listener, serving(listener, loop=loop, http=http):
            conn = connect(listener.getsockname(), V4)
            assert [seen for seen, _ in ask(conn, conn, conn)] == [SEEN] * 3

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
    def test_a_websocket_has_the_client(
        self,
        connect: Connect,
        open_listener: Callable[[str], socket.socket],
        loop: str,
        ws: str,
    ) -> None:
        require(loop, ws.removesuffix("-sansio"))
        with open_listener("127.0.0.1") as listener, serving(listener, loop=loop, ws=ws):
            conn = connect(listener.getsockname(), V4)
            ask(conn)
            assert upgrade(conn)[0] == SEEN

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def test_under_tls_too(
        self,
        connect: Connect,
        open_listener: Callable[[str], socket.socket],
        tmp_path: Path,
        loop: str,
    ) -> None:
        require(loop)
        key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
                *("ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=origin"),
                *("-addext", "subjectAltName=DNS:origin", "-keyout", key, "-out", certificate),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.create_default_context(cafile=certificate)
        with (
            open_listener("127.0.0.1") as listener,
            serving(listener, loop=loop, ssl_keyfile=key, ssl_certfile=certificate),
        ):
            plain = connect(listener.getsockname(), V4)
            with context.wrap_socket(plain, server_hostname="origin") as conn:
                assert [seen for seen, _ in ask(conn, conn)] == [SEEN] * 2

    def test_its_access_log_names_the_client(
        self, connect: Connect, listen: Listen, caplog: pytest.LogCaptureFixture
    ) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, LOOPBACK)
            with caplog.at_level(logging.INFO, "uvicorn.access"), serving(listener):
                ask(connect(listener.getsockname(), V4))
        (logged,) = [entry for entry in caplog.messages if "GET" in entry]
        assert logged.startswith(f"{V4} - ")

    def test_a_forwarded_for_of_the_edge_gives_way(self, connect: Connect, listen: Listen) -> None:
        with listen("127.0.0.1") as listener:
            saved_syn.prepare(listener, LOOPBACK)
            with serving(listener, proxy_headers=True, forwarded_allow_ips="127.0.0.1"):
                conn = connect(listener.getsockname(), V4)
                conn.sendall(
                    b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n"
                    b"X-Forwarded-For: 203.0.113.9\r\n\r\n"
                )
                answer = read_until_closed(conn).partition(b"\r\n\r\n")[2]
                assert json.loads(answer) == [SEEN, ["203.0.113.9", 0]]


def test_gunicorns_asgi_worker_tells_the_client(
    connect: Connect, listen_in: Callable[[str], socket.socket], source: str
) -> None:
    trust = "127.0.0.1" if source == "saved_syn" else None
    app = "tests.origin.apps:for_asgi"
    with listen_in("127.0.0.1") as listener, gunicorn(listener, trust, "-k", "asgi", app):
        conns = [connect(listener.getsockname(), named) for named in (V4, None)]
        peer = list(conns[1].getsockname())
        (seen, _), without = ask(*conns)
        assert seen == SEEN
        assert without == [peer, None]


class Transport(asyncio.BaseTransport):
    """One over a connection whose receiver found an option without a port."""

    def get_extra_info(self, name: str, default: object = None) -> Any:
        return self if name == "socket" else default

    def getsockopt(self, *_: int) -> bytes:
        return b"\2\0\0\0" + bytes.fromhex("c6336407") + bytes(8)


class Request:
    """As a server has it, of a connection that has or has not got a transport."""

    def __init__(self, transport: object) -> None:
        self.transport = transport

    async def receive(self) -> asgi.Message:
        return {}


async def nothing(*_: object) -> asgi.Message:
    return {}


def pass_through(scope: asgi.Scope, receive: asgi.Receive) -> asgi.Scope:
    """The scope as the application gets it; the server's own is the same object."""
    passed = []

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        passed.append(scope)

    async def send(message: asgi.Message) -> None:
        raise AssertionError

    asyncio.run(asgi.ToaMiddleware(app)(scope, receive, send))
    (got,) = passed
    assert got is scope
    return got


class TestOtherServers:
    @pytest.mark.parametrize("before", [("192.0.2.1", 4000), ["192.0.2.1", 4000]])
    def test_without_a_port_the_servers_own_stays(self, before: object) -> None:
        scope = pass_through({"type": "http", "client": before}, Request(Transport()).receive)
        assert scope["client"] == ("198.51.100.7", 4000)
        assert scope[asgi.PEER] == before

    @pytest.mark.parametrize("before", [{}, {"client": None}])
    def test_without_any_port_it_is_0(self, before: dict[str, None]) -> None:
        scope = pass_through({"type": "websocket", **before}, Request(Transport()).receive)
        assert scope["client"] == ("198.51.100.7", 0)

    @pytest.mark.parametrize(
        "receive",
        [nothing, Request(None).receive, Request(asyncio.BaseTransport()).receive],
        ids=["function", "no transport", "no socket"],
    )
    def test_one_that_shows_no_socket_is_left_alone(self, receive: asgi.Receive) -> None:
        before = {"type": "http", "client": ("192.0.2.1", 4000)}
        assert pass_through(dict(before), receive) == before

    def test_a_lifespan_has_no_client(self) -> None:
        before = {"type": "lifespan"}
        assert pass_through(dict(before), Request(Transport()).receive) == before

    def test_a_client_that_has_hung_up_is_no_error(self) -> None:
        sock = socket.socket()
        sock.close()
        transport = asyncio.BaseTransport({"socket": sock})
        before = {"type": "http", "client": ("192.0.2.1", 4000)}
        assert pass_through(dict(before), Request(transport).receive) == before
