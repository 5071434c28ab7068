# SPDX-License-Identifier: Apache-2.0
"""Services of the lab's edge: their origins, their clients, and their lines in the log."""

import json
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud_toa.demo.lab import EDGE, Lab, stop
from tests.netns.traffic import wait_until

CLIENT = "203.0.113.9"
CLIENT6 = "2001:db8:1::9"
ORIGIN = "10.9.0.2"
FIRST, SECOND, THIRD = 7001, 7002, 7003

Answer = dict[str, Any]


def start_origin(
    lab: Lab, place: Path, name: str, port: int, *options: object
) -> "subprocess.Popen[bytes]":
    """A server of `origin_server`, in the receiver's cgroup."""
    command = [sys.executable, "-m", "tests.netns.origin_server", name, port, *options]
    return lab.start(lab.origin, list(map(str, command)), [(ORIGIN, port)], place=place)


stop_origin = stop


def origin(port: int, *lines: str, address: str = ORIGIN) -> str:
    """An entry of the edge's file."""
    return "\n".join(("[[service.origin]]", f'address = "{address}"', f"port = {port}", *lines, ""))


def service(name: str, port: int, *lines: str, origins: str = "", check: bool = False) -> str:
    """A service on this port, with the first origin, unless it has others."""
    return "\n".join(
        (
            *("[[service]]", f'name = "{name}"'),
            f'listen = ["{EDGE[4]}:{port}", "[{EDGE[6]}]:{port}"]',
            *([] if check else ["check.enabled = false"]),
            *lines,
            origins or origin(FIRST),
        )
    )


@contextmanager
def connected(
    lab: Lab,
    port: int,
    *,
    client: str = CLIENT,
    tls: ssl.SSLContext | None = None,
    name: str | None = None,
    first: bytes = b"",
) -> Iterator[socket.socket]:
    """A client of a service; ``first`` is sent before all else, also before TLS."""
    server = EDGE[6] if ":" in client else EDGE[4]
    sock = lab.connect((client, 0), (server, port))
    try:
        sock.sendall(first)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=name)
        yield sock
    finally:
        sock.close()


def ask(sock: socket.socket) -> Answer:
    """What the origin says of a connection; ConnectionError if that has ended instead."""
    sock.sendall(b"ask\n")
    said = b""
    while not said.endswith(b"\n"):
        data = sock.recv(1 << 12)
        if not data:
            raise ConnectionResetError("ended without an answer")
        said += data
    return dict(json.loads(said))


def visit(lab: Lab, port: int, **how: Any) -> Answer:
    """Connect, ask, and leave; see `connected`."""
    with connected(lab, port, **how) as sock:
        said = ask(sock)
        said["own"] = list(sock.getsockname()[:2])
    return said


def is_seen(said: Answer) -> bool:
    """Whether the origin saw the client itself."""
    return bool(said["client"] == said["own"])


def is_refused(lab: Lab, port: int, **how: Any) -> bool:
    """Whether the connection ends before an answer; TLS may say why."""
    try:
        visit(lab, port, **how)
    except (ConnectionError, ssl.SSLError):
        return True
    return False


def wait_until_refused(lab: Lab, port: int, **how: Any) -> None:
    wait_until(lambda: is_refused(lab, port, **how))


def wait_until_served(lab: Lab, port: int, **how: Any) -> None:
    wait_until(lambda: not is_refused(lab, port, **how))


def lead(hosts: Path, *lines: str) -> None:
    """Have host names lead to addresses. In place: what is mounted is this very file."""
    hosts.write_text("".join(f"{line}\n" for line in ("127.0.0.1 localhost", *lines)))


def trusting(*authorities: Path, certificate: Path | None = None) -> ssl.SSLContext:
    """A client of TLS that believes these; no host name is checked, unless switched on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for authority in authorities:
        context.load_verify_locations(authority)
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def shown(sock: socket.socket) -> dict[str, Any]:
    """The server's certificate."""
    assert isinstance(sock, ssl.SSLSocket)
    certificate: dict[str, Any] | None = sock.getpeercert()
    assert certificate
    return certificate


def shown_name(sock: socket.socket) -> str:
    """For whom the server's certificate is."""
    return str({key: value for ((key, value),) in shown(sock)["subject"]}["commonName"])


class Log:
    """The access log, as a lab's file."""

    def __init__(self, lab: Lab) -> None:
        self.path = lab.files / "access.log"
        self._read = 0

    @property
    def settings(self) -> str:
        """For the edge's file."""
        return f'[access_log]\nfile = "{self.path}"\n'

    def entries(self) -> list[Answer]:
        """All so far; each line must be JSON."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def next(self) -> Answer:
        """The one after those that were taken before; waits for it."""
        wait_until(lambda: len(self.entries()) > self._read, reason=self.entries)
        self._read += 1
        return self.entries()[self._read - 1]
