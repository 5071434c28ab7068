# SPDX-License-Identifier: Apache-2.0
"""The server that is told by each connection whose it is, and says whether it saw the same.

A client writes its own address into the connection, as a line ``ip port`` (visitors.py). This
compares it with whom accept() and getpeername() named, or with what a saved SYN names, and
answers ``right`` or ``saw ip port``, or both addresses where the two differ; then closes
first: what is left of a connection (TIME_WAIT) is the server's, as ports are the edge's. Or it
holds the connection, and answers each line.

Run with a `Serve` as JSON. One thread around epoll: thousands of connections a second.
"""

import selectors
import socket
import struct
import subprocess
import sys
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec

from cloud_toa.demo.lab import Lab
from cloud_toa.isolation import Namespace
from cloud_toa.option import plain
from cloud_toa.origin import saved_syn

_TCP_FASTOPEN, _TCP_MD5SIG, _MPTCP = 23, 14, 262


class Serve(msgspec.Struct):
    """What a server is to do."""

    ports: list[int]
    saved_syn: list[str] = []
    """Whom to believe, where the saved SYN is the receiver; else nobody is asked for."""
    fast_open: bool = False
    mptcp: bool = False
    md5: list[str] = []
    """Peers whose segments are signed (RFC 2385), with `KEY`."""
    log: str = ""
    """A file for whom a connection is seen to be from: once it is accepted, once it is heard."""
    hold: bool = False
    """Whether connections stay until their clients close."""


KEY = b"cloud-toa"


def sign(sock: socket.socket, peer: str) -> None:
    """Have a socket's segments to and from an address signed: ``struct tcp_md5sig``, tcp.h."""
    address = (
        struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, peer), 0)
        if ":" in peer
        else struct.pack("=HH4s", socket.AF_INET, 0, socket.inet_pton(socket.AF_INET, peer))
    )
    value = struct.pack("128sBBHI80s", address, 0, 0, len(KEY), 0, KEY)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, value)


class _Server:
    def __init__(self, task: Serve) -> None:
        self._task = task
        self._selector = selectors.DefaultSelector()
        self._log = Path(task.log).open("ab", 0) if task.log else None  # noqa: SIM115
        for port in task.ports:
            self._selector.register(self._listen(port), selectors.EVENT_READ)

    def _listen(self, port: int) -> socket.socket:
        protocol = _MPTCP if self._task.mptcp else 0
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, protocol)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._task.hold:
            # Several processes, as each may have so many open files.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for peer in self._task.md5:
            sign(listener, peer if ":" in peer else f"::ffff:{peer}")
        listener.bind(("::", port))
        if self._task.saved_syn:
            saved_syn.prepare(listener, self._task.saved_syn)
        if self._task.fast_open:
            listener.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN, 1024)
        listener.listen(4096)
        listener.setblocking(False)
        return listener

    def run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data is None:
                    self._accept(sock)
                else:
                    self._answer(sock, key.data)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(64):
            try:
                conn, peer = listener.accept()
            except OSError:
                return
            conn.setblocking(False)
            try:
                seen = self._seen(conn, peer)
            except OSError:  # reset meanwhile: there is nobody to answer
                self._note(b"accepted", _text(peer))
                conn.close()
                continue
            self._note(b"accepted", seen)
            self._selector.register(conn, selectors.EVENT_READ, seen)

    def _seen(self, conn: socket.socket, peer: tuple[str, int]) -> bytes:
        if self._task.saved_syn and (client := saved_syn.client_of(conn)):
            return f"{client.ip} {client.port}\n".encode()
        if (named := conn.getpeername()) != peer:
            return _text(peer).strip() + b" " + _text(named)
        return _text(peer)

    def _answer(self, conn: socket.socket, seen: bytes) -> None:
        try:
            said = conn.recv(128)
            if said:
                if self._log:
                    self._note(b"heard", self._seen(conn, conn.getpeername()))
                conn.sendall(b"right\n" if said == seen else b"saw " + seen)
                if self._task.hold:
                    return
        except OSError:
            pass
        self._selector.unregister(conn)
        conn.close()

    def _note(self, when: bytes, seen: bytes) -> None:
        if self._log:
            self._log.write(when + b" " + seen)


def _text(peer: tuple[str, int]) -> bytes:
    return f"{plain(ip_address(peer[0]))} {peer[1]}\n".encode()


class Seen(NamedTuple):
    """Whom a server's log has, as ``ip port``, and how often."""

    accepted: Counter[str]
    heard: Counter[str]


def read_log(log: Path) -> Seen:
    """What has been written there."""
    seen = Seen(Counter(), Counter())
    for line in log.read_text().splitlines():
        when, _, peer = line.partition(" ")
        (seen.accepted if when == "accepted" else seen.heard)[peer] += 1
    return seen


def serve(
    lab: Lab, task: Serve, place: Path | None, host: Namespace | None = None
) -> "subprocess.Popen[bytes]":
    """Start a server at the lab's origin, or at another host."""
    command = [sys.executable, __file__, msgspec.json.encode(task).decode()]
    return lab.start(host or lab.origin, command, [("", port) for port in task.ports], place=place)


if __name__ == "__main__":
    _Server(msgspec.json.decode(sys.argv[1], type=Serve)).run()
