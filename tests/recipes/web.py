# SPDX-License-Identifier: Apache-2.0
"""A real web server on the origin, and what its own log says of a client."""

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
    page = f"/{uuid.uuid4()}"
    with lab.connect((CLIENTS[version], 0), (EDGE[version], port)) as sock:
        host, number = sock.getsockname()[:2]
        sock.sendall(f"GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 204")
        while sock.recv(4096):
            pass
    wait_until(lambda: page in log.read_text(), reason=log.read_text)
    (line,) = [line for line in log.read_text().splitlines() if page in line]
    ip, seen, _ = line.split()
    return Client(ip_address(host), number), Client(plain(ip_address(ip)), int(seen))
