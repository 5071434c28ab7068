# SPDX-License-Identifier: Apache-2.0
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from cloud_toa import Client
from cloud_toa.origin import wsgi
from tests.origin.addresses import V4, V6
from tests.origin.apps import say
from tests.origin.conftest import Connect, Listen, ask, gunicorn

APP = "tests.origin.apps:for_wsgi"
TRUST = {"saved_syn": "127.0.0.1 ::1", "receiver": None}


def environment(conn: socket.socket | None = None) -> dict[str, Any]:
    environ: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "4000"}
    return environ if conn is None else {**environ, "gunicorn.socket": conn}


def answer(environ: dict[str, Any]) -> Any:
    return json.loads(b"".join(wsgi.ToaMiddleware(say)(environ, lambda *_: lambda _: None)))


class WithoutPort(socket.socket):
    """A connection whose receiver found an option without a port."""

    def getsockopt(self, *_: int) -> Any:
        return b"\2\0\0\0" + bytes.fromhex("c6336407") + bytes(8)


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
def test_gunicorn_tells_the_client(
    connect: Connect,
    listen_in: Callable[[str], socket.socket],
    source: str,
    host: str,
    client: Client,
) -> None:
    with (
        listen_in(host) as listener,
        gunicorn(listener, TRUST[source], APP) as process,
    ):
        conns = [connect(listener.getsockname()[:2], named) for named in (client, None)]
        peers = [[host, str(conn.getsockname()[1])] for conn in conns]
        [ip, port, peer], without = ask(*conns)
        assert (ip, port) == (str(client.ip), str(client.port))
        if source == "saved_syn":
            assert peer == peers[0]
        assert without == [*peers[1], None]
        assert process.stdout is not None
        logged = process.stdout.readline()
        assert logged.startswith(f"{client.ip} ")


def test_gunicorn_tells_the_peer_that_is_not_trusted(
    connect: Connect, listen_in: Callable[[str], socket.socket], source: str
) -> None:
    with listen_in("127.0.0.1") as listener, gunicorn(listener, TRUST[source], APP):
        conn = connect(listener.getsockname(), V4, source="127.0.0.2")
        host, port = conn.getsockname()
        assert ask(conn) == [[host, str(port), None]]


def test_gunicorn_tells_the_peer_where_nothing_was_prepared(
    connect: Connect, listen: Listen
) -> None:
    with listen("127.0.0.1") as listener, gunicorn(listener, None, APP):
        conn = connect(listener.getsockname(), V4)
        host, port = conn.getsockname()
        assert ask(conn) == [[host, str(port), None]]


def test_each_request_of_a_connection_has_the_client(
    connect: Connect, listen_in: Callable[[str], socket.socket], source: str
) -> None:
    with (
        listen_in("127.0.0.1") as listener,
        gunicorn(listener, TRUST[source], "--worker-class", "gthread", APP),
    ):
        conn = connect(listener.getsockname(), V4)
        for ip, port, _ in ask(conn, conn, conn):
            assert (ip, port) == (str(V4.ip), str(V4.port))


def test_without_a_port_the_servers_own_stays() -> None:
    with WithoutPort() as conn:
        assert answer(environment(conn)) == ["198.51.100.7", "4000", ["192.0.2.1", "4000"]]


def test_a_server_that_names_no_socket_is_left_alone() -> None:
    assert answer(environment()) == ["192.0.2.1", "4000", None]


def test_a_unix_socket_is_left_alone() -> None:
    one, two = socket.socketpair()
    with one, two:
        assert answer(environment(one)) == ["192.0.2.1", "4000", None]
