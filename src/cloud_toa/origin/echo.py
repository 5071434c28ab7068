# SPDX-License-Identifier: Apache-2.0
"""A server that tells each client whom it sees, to try an edge by (``cloud-toa origin echo``).

A connection is asked with one line, answered with one line of JSON, and closed::

    {"cloud-toa": "echo", "peer": "203.0.113.7", "port": 40007, "client": "203.0.113.7:40007"}

``peer`` and ``port`` are what ``accept()`` answers every server; ``client`` is what the
receiver knows, null where the connection had no TOA, and left out where there is no
receiver.
"""

import errno
import json
import socket
import socketserver
from contextlib import suppress
from typing import Any

from cloud_toa.api import client_of
from cloud_toa.errors import ToaError

QUESTION = b"cloud-toa echo\n"
_PATIENCE = 5.0
_LONGEST = 1024


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Answer one connection; who says nothing is answered all the same."""
        conn: socket.socket = self.request
        conn.settimeout(_PATIENCE)
        with suppress(OSError):
            # The option may come with the first data.
            with suppress(TimeoutError):
                conn.recv(_LONGEST)
            conn.sendall(json.dumps(seen(conn)).encode() + b"\n")


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


class _Server6(_Server):
    address_family = socket.AF_INET6


def seen(conn: socket.socket) -> dict[str, Any]:
    """Whom this host sees at the other end of a connection."""
    peer = conn.getpeername()
    answer: dict[str, Any] = {
        "cloud-toa": "echo",
        "peer": peer[0].removeprefix("::ffff:"),
        "port": peer[1],
    }
    try:
        client = client_of(conn)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise
        return answer
    return answer | {"client": None if client is None else str(client)}


def server(host: str, port: int) -> socketserver.ThreadingTCPServer:
    """A server that listens; ``::`` is IPv4 as well.

    Raises:
        ToaError: it can't listen there.
    """
    kind = _Server6 if ":" in host else _Server
    try:
        return kind((host, port), _Echo)
    except OSError as error:
        raise ToaError(
            f"{host} port {port} can't be listened on: {error.strerror}: choose another"
        ) from None
