# SPDX-License-Identifier: Apache-2.0
"""The peers of the control socket: a Unix stream socket, each peer with its `Session`.

Nobody may hold up the others, fill the memory, the disk or the file table: peers are
limited in number, read a little at a time, not read while they do not read, and logged
so many lines a second.
"""

import asyncio
import logging
import resource
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cloud_toa.control import file
from cloud_toa.control.session import Session
from cloud_toa.ports import PortTable

MAX_PEERS = 1024
"""Peers at a time, or half of the files that this process may open if that is fewer."""

LOG_LINES = 10
"""Refusals in the log per second; of the others only the number is logged."""

_BACKLOG = 1024
_READ = 4096  # bytes at a time: what a peer's replies can grow to before it is made to wait

_UCRED = struct.Struct("iII")  # pid, uid, gid: struct ucred, see unix(7)

_log = logging.getLogger("cloud_toa.control")


class Lines(Protocol):
    """What executes lines while their peer is still in write(): `bpf.lines.Lines`."""

    @property
    def executed(self) -> int:
        """How many lines it has executed."""

    def join(self, peer: int) -> tuple[int | None, bytes]:
        """Execute what this peer writes from now on; answer its place, and what came before."""

    def leave(self, place: int) -> None:
        """The peer that had this place is gone."""


class ControlServer:
    """The control socket at ``path``: mode 0660, of this process's user and ``group``.

    Args:
        path: replaced if it is the socket of a process that is gone.
        table: where entries go.
        kinds: the option's kinds for IPv4 and IPv6 clients.
        group: whose members may connect, beside this user; None for this process's group.
        on_quit: called when a peer asked for the end of the process, and may.
        lines: executes what peers write that wait for no answer; None where the kernel can't.
    """

    def __init__(
        self,
        path: Path,
        table: PortTable,
        kinds: tuple[int, int],
        group: str | None,
        on_quit: Callable[[], None],
        *,
        lines: Lines | None = None,
    ) -> None:
        self.counters = {"added": 0, "removed": 0, "refused": 0, "peers": 0, "turned_away": 0}
        """Lines executed and refused, peers connected now, and those that were too many."""
        self._path, self._table, self._kinds, self._group = path, table, kinds, group
        self._on_quit, self._lines = on_quit, lines
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._peers: set[_Peer] = set()
        self._limit = 0
        self._refusals = 0
        self._window: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Take peers from now on.

        Raises:
            ToaError: the socket is in use, the path is something else, too long or in no
                directory, the group is unknown, or the kernel refused. Nothing was changed.
        """
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = min(MAX_PEERS, soft // 2 if soft != resource.RLIM_INFINITY else MAX_PEERS)
        sock = file.bound(self._path, self._group)
        self._inode = file.inode(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Peer(self), sock=sock, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Let all peers go, and remove the socket's file if it is still ours."""
        if self._server is None:
            return
        # While our socket is open, no other file can have its inode's number.
        if file.inode(self._path) == self._inode:
            self._path.unlink(missing_ok=True)
        self._server.close()
        self._server = None
        for peer in self._peers:
            peer.transport.abort()
        while self._peers:
            await asyncio.sleep(0)
        if self._window is not None:
            self._window.cancel()
            self._end_window()

    def counted(self) -> dict[str, int]:
        """`counters`, with the lines that the kernel has executed."""
        executed = self._lines.executed if self._lines is not None else 0
        return self.counters | {"added": self.counters["added"] + executed}

    def _join(self, peer: "_Peer") -> bool:
        if len(self._peers) >= self._limit:
            self.counters["turned_away"] += 1
            self._refuse(peer, f"turned away: {self._limit} peers are connected already")
            return False
        self._peers.add(peer)
        self.counters["peers"] = len(self._peers)
        return True

    def _leave(self, peer: "_Peer") -> None:
        self._peers.discard(peer)
        if peer.place is not None and self._lines is not None:
            self._lines.leave(peer.place)
        self.counters["peers"] = len(self._peers)

    def _refuse(self, peer: "_Peer", reason: str) -> None:
        """Log it, or only count it: nobody may fill the disk."""
        if self._window is None:
            self._window = asyncio.get_running_loop().call_later(1, self._end_window)
        self._refusals += 1
        if self._refusals <= LOG_LINES:
            _log.warning("pid %d: %s", peer.pid, reason)

    def _end_window(self) -> None:
        if self._refusals > LOG_LINES:
            _log.warning("%d more refusals in a second are left out", self._refusals - LOG_LINES)
        self._refusals, self._window = 0, None


class _Peer(asyncio.BufferedProtocol):
    """One connection. Reads little at a time, and nothing while replies are not read."""

    def __init__(self, server: ControlServer) -> None:
        self._server = server
        self._buffer = bytearray(_READ)
        self._empty: int | None = None
        self._looked = 0
        self.place: int | None = None
        """Where the kernel executes its lines."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        # As they were when the peer called connect(): nobody can change them afterwards.
        sock = transport.get_extra_info("socket")
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        self.pid, uid, _ = _UCRED.unpack(credentials)
        server = self._server
        self._session = Session(
            server._table,
            server._kinds,
            uid,
            log=lambda reason: server._refuse(self, reason),
            counters=server.counters,
        )
        if not server._join(self):
            transport.abort()

    # The protocol's signature; our buffer has its size whatever is hinted.
    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        self._looked = time.monotonic_ns()
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        # Less than there was room for: when it was read, nothing more had been written. What
        # the kernel passes on may have come sooner than what it executed.
        known = nbytes < _READ and self.place is None
        earliest, self._empty = self._empty, self._looked if known else None
        written = (earliest, self._looked) if known and earliest is not None else None
        self._receive(bytes(self._buffer[:nbytes]), written)
        lines = self._server._lines
        if lines is not None and self.place is None and self._session.unanswered:
            sock = self.transport.get_extra_info("socket")
            self.place, before = lines.join(sock.fileno())
            self._empty = None
            self._receive(before, None)

    def _receive(self, data: bytes, written: tuple[int, int] | None) -> None:
        asked = self._session.quit
        replies = self._session.receive(data, written)
        if replies:
            self.transport.write("".join(f"{reply}\n" for reply in replies).encode())
        if self._session.quit and not asked:
            self._server._on_quit()

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    # The protocol's signature; how a peer goes makes no difference.
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._session.end()
        self._server._leave(self)
