# SPDX-License-Identifier: Apache-2.0
"""Connections without a pause, each of which learns whom the server takes it for.

Run as ``serve PORT``, which answers each line with the peer's address, and as ``visit
SOURCE HOST PORT``, until SIGTERM: it then prints `Outcome` as JSON.
"""

import json
import signal
import socket
import socketserver
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address

from cloud_toa.option import plain

VISITORS = 4
"""Connections at a time."""

_PATIENCE = 60.0


@dataclass
class Outcome:
    """What became of the connections."""

    as_client: int = 0
    """Connections that the server took for the client's."""
    as_other: dict[str, int] = field(default_factory=dict)
    """How many the server took for another's, by address."""
    failed: list[str] = field(default_factory=list)
    longest: float = 0.0
    """Seconds from connect() to the answer, of the slowest."""


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        host, port = self.client_address[:2]
        for _ in self.rfile:
            self.wfile.write(f"{plain(ip_address(host))} {port}\n".encode())


class _Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True
    allow_reuse_address = True


def ask(sock: socket.socket) -> str:
    """Whom the server takes this connection for, as ``ip port``."""
    sock.sendall(b"?\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = sock.recv(100)
        if not data:
            raise ConnectionError("closed without an answer")
        answer += data
    return answer.decode().strip()


def _visit(source: str, server: tuple[str, int], stop: threading.Event, outcome: Outcome) -> None:
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    while not stop.is_set():
        begun = time.monotonic()
        try:
            with socket.socket(family) as sock:
                sock.settimeout(_PATIENCE)
                sock.bind((source, 0))
                sock.connect(server)
                host, port = sock.getsockname()[:2]
                seen = ask(sock)
        except OSError as error:
            outcome.failed.append(f"{error} after {time.monotonic() - begun:.1f} s")
            continue
        outcome.longest = max(outcome.longest, time.monotonic() - begun)
        if seen == f"{ip_address(host)} {port}":
            outcome.as_client += 1
        else:
            other = seen.split()[0]
            outcome.as_other[other] = outcome.as_other.get(other, 0) + 1


def visit(source: str, server: tuple[str, int]) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    outcome = Outcome()
    visitors = [
        threading.Thread(target=_visit, args=(source, server, stop, outcome))
        for _ in range(VISITORS)
    ]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", port]:
            _Server(("::", int(port)), _Handler).serve_forever()
        case ["visit", source, host, port]:
            visit(source, (host, int(port)))
