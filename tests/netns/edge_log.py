# SPDX-License-Identifier: Apache-2.0
"""Connections through ``cloud-toa edge run``, and what its access log says of their TOA."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_toa.demo.lab import Lab
from tests.netns.edge_services import CLIENT, Answer, connected, origin, service
from tests.netns.traffic import SERVER

PORT = 8080
WRITTEN = ("syn,ack,data", "-")
NO_CONNECTION = ("-", "-")


@contextmanager
def through(
    lab: Lab, listener: socket.socket, port: int = PORT, *, client: str = CLIENT, first: bytes = b""
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client of a service, and the origin's end of it."""
    with connected(lab, port, client=client, first=first) as sock, listener.accept()[0] as conn:
        sock.settimeout(120)
        conn.settimeout(120)
        yield sock, conn


def ask(sock: socket.socket, conn: socket.socket) -> None:
    """The client speaks first."""
    sock.sendall(b"ask")
    while not conn.recv(100).endswith(b"ask"):
        pass
    conn.sendall(b"answer")
    assert sock.recv(10) == b"answer"


def visit(lab: Lab, listener: socket.socket, port: int = PORT, **how: str) -> None:
    with through(lab, listener, port, **how) as (sock, conn):  # type: ignore[arg-type]
        ask(sock, conn)


def said(entry: Answer) -> tuple[str, str]:
    return str(entry["toa"]), str(entry["toa_why_not"])


def web(*lines: str, port: int = PORT, name: str = "web", address: str = SERVER[0]) -> str:
    return service(name, port, *lines, origins=origin(SERVER[1], address=address))


def origin_speaks_first(sock: socket.socket, conn: socket.socket) -> None:
    conn.sendall(b"hello")
    assert sock.recv(5) == b"hello"
    ask(sock, conn)
