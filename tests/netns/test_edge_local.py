# SPDX-License-Identifier: Apache-2.0
"""Who reaches `edge run` from the edge itself is not the origin's own localhost: a real Redis."""

import socket
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.edge_node import PORT, running, write
from tests.netns.traffic import SERVER, SERVER6

SETTINGS = f"""
[[service]]
name = "redis"
listen = ["[::]:{PORT}", "0.0.0.0:{PORT}"]
check.enabled = false
[[service.origin]]
address = "%s"
port = {SERVER[1]}
"""


def ask(visitor: socket.socket) -> bytes:
    visitor.settimeout(120)
    visitor.sendall(b"PING\r\n")
    return visitor.recv(100)


@pytest.mark.parametrize("origin", [SERVER, SERVER6], ids=["v4", "v6"])
def test_redis_keeps_its_protected_mode(lab: Lab, receiver: Path, origin: tuple[str, int]) -> None:
    """It serves its own host without a password, and nobody else."""
    command = ["redis-server", "--port", str(origin[1]), "--bind", "*", "-::*", "--save", ""]
    lab.start(lab.origin, command, [origin], place=receiver)
    with lab.origin.entered(), socket.create_connection(("127.0.0.1", origin[1])) as visitor:
        assert ask(visitor) == b"+PONG\r\n"
    with running(lab, "--config", str(write(lab, SETTINGS % origin[0]))):
        for address in ("127.0.0.1", "::1", EDGE[4], EDGE[6]):
            with lab.edge.entered():
                visitor = socket.create_connection((address, PORT))
            with visitor:
                assert ask(visitor).startswith(b"-DENIED Redis is running in protected mode")
