# SPDX-License-Identifier: Apache-2.0
"""A real web server on the origin, and what its own log says of a client."""

import socket
import uuid
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.demo.cases import listens, server
from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.option import Client, plain
from tests.netns.traffic import wait_until

CLIENTS = {4: "203.0.113.7", 6: "2001:db8:1::7"}
PORT = 8080
"""Where the recipes' load balancers listen."""


def start_origin(lab: Lab, place: Path) -> Path:
    """Start nginx as an origin; answer its access log."""
    command, log = server("nginx", lab.files)
    lab.start(lab.origin, command, listens("nginx"), place=place)
    return log


def visit(lab: Lab, log: Path, version: int, port: int = PORT) -> tuple[Client, Client]:
    """Make a request through the edge; answer the client, and whom the server has logged."""
    with lab.connect((CLIENTS[version], 0), (EDGE[version], port)) as sock:
        seen = ask(sock, log, "Connection: close")
        while sock.recv(4096):
            pass
        return own(sock), seen


def own(sock: socket.socket) -> Client:
    """The client that a connection is of."""
    host, port = sock.getsockname()[:2]
    return Client(ip_address(host), port)


def ask(sock: socket.socket, log: Path, *headers: str) -> Client:
    """Make a request by a connection, which may be kept; answer whom the server has logged."""
    page = f"/{uuid.uuid4()}"
    lines = (f"GET {page} HTTP/1.1", "Host: x", *headers, "", "")
    sock.sendall("\r\n".join(lines).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += (got := sock.recv(4096))
        assert got, f"{answer!r} and no more"
    assert answer.startswith(b"HTTP/1.1 204"), answer
    wait_until(lambda: page in log.read_text(), reason=log.read_text)
    (line,) = [line for line in log.read_text().splitlines() if page in line]
    ip, port, _ = line.split()
    return Client(plain(ip_address(ip)), int(port))
