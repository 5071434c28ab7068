# SPDX-License-Identifier: Apache-2.0
"""HAProxy on the lab's edge, transparent, before one server; and a client's way through it."""

import socket
from ipaddress import ip_address

from cloud_toa.demo.lab import EDGE, Lab
from cloud_toa.option import Client, plain
from tests.netns.traffic import SERVER, SERVER6

CLIENTS = {4: "203.0.113.7", 6: "2001:db8:1::7"}
PORT = 8080

_CONFIGURATION = f"""
defaults
  mode tcp
  timeout connect 10s
  timeout client 600s
  timeout server 600s
listen four
  bind {EDGE[4]}:{PORT}
  source 0.0.0.0 usesrc client
  server origin {SERVER[0]}:{SERVER[1]}
listen six
  bind {EDGE[6]}:{PORT}
  source :::0 usesrc client
  server origin {SERVER6[0]}:{SERVER6[1]}
"""


def start_haproxy(lab: Lab) -> None:
    """Both families, each to an origin of its own."""
    configuration = lab.files / "haproxy.cfg"
    configuration.write_text(_CONFIGURATION)
    lab.start(lab.edge, ["haproxy", "-db", "-f", str(configuration)], [("", PORT)])


def connect(lab: Lab, version: int, port: int = PORT) -> socket.socket:
    """A client's connection to HAProxy."""
    return lab.connect((CLIENTS[version], 0), (EDGE[version], port))


def client_of(sock: socket.socket) -> Client:
    """The client's own address."""
    host, port = sock.getsockname()[:2]
    return Client(ip_address(host), port)


def seen_by(listener: socket.socket) -> tuple[socket.socket, Client]:
    """The next connection at the server, and whom it takes that for."""
    conn, peer = listener.accept()
    conn.settimeout(60)
    return conn, Client(plain(ip_address(peer[0])), peer[1])
