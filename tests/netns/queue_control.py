# SPDX-License-Identifier: Apache-2.0
"""A load balancer on the lab's edge that names its clients on the control socket."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab, inside
from cloud_toa.option import Client
from tests.netns.queue_edge import QueueEdge, running
from tests.netns.traffic import SERVER, reset_at_close


class Balancer:
    """It connects from local ports of its choice."""

    def __init__(self, lab: Lab, place: Path, edge: QueueEdge, path: Path, hello: bool) -> None:
        self._lab, self._place = lab, place
        self.edge = edge
        self.control = socket.socket(socket.AF_UNIX)
        self.control.settimeout(120)
        self.control.connect(str(path))
        self._replies = self.control.makefile("r")
        if hello:
            assert self.ask("hello:2") == "ok"

    def close(self) -> None:
        self._replies.close()
        self.control.close()

    def ask(self, line: str) -> str:
        self.control.sendall(f"{line}\n".encode())
        return self._replies.readline().strip()

    def say(self, line: str) -> None:
        """Without an answer; executed when this is back, as the log says of a line behind it."""
        self.control.sendall(f"{line}\nno verb\n".encode())
        self.edge.until("no verb")

    def add(self, port: int, client: tuple[str, int]) -> None:
        assert self.ask(f"add:{port}:{Client(ip_address(client[0]), client[1])}") == "ok"

    def bound(self, port: int, server: tuple[str, int]) -> socket.socket:
        """A socket with a local port, about to connect."""
        six = ":" in server[0]
        with inside(self._place), self._lab.edge.entered():
            sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        sock.settimeout(120)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((EDGE_TO_ORIGIN[6 if six else 4], port))
        return sock

    @contextmanager
    def connected(self, port: int, server: tuple[str, int]) -> Iterator[socket.socket]:
        """Connect from a local port, which can be used again at once."""
        with self.bound(port, server) as sock:
            sock.connect(server)
            reset_at_close(sock)
            yield sock

    def visit(
        self, listener: socket.socket, port: int, server: tuple[str, int] = SERVER
    ) -> tuple[str, int]:
        """Whom the server saw."""
        with self.connected(port, server) as sock:
            conn, peer = listener.accept()
            with conn:
                sock.sendall(b"x")
                assert conn.recv(1) == b"x"
        return peer[0].removeprefix("::ffff:"), peer[1]


@contextmanager
def balancer(
    lab: Lab, place: Path, datapath: str = "queue", hello: bool = True, *options: str
) -> Iterator[Balancer]:
    path = lab.files / "control.sock"
    options = (f"-sock={path}", "-max-queue-id=2", *options)
    if datapath == "bpf":
        options += (f"-cgroup={place}",)
    with ExitStack() as undo:
        edge = undo.enter_context(running(lab, *options, datapath=datapath))
        found = Balancer(lab, place, edge, path, hello)
        undo.callback(found.close)
        yield found
