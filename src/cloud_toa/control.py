# SPDX-License-Identifier: Apache-2.0
r"""The control socket: a load balancer names the client of a connection it will make.

A Unix stream socket. Lines end with \n, or \r\n, and have at most 256 bytes::

    add:<local port>:<client>   client as 192.0.2.7:50123 or [2001:db8::7]:50123
    del:<local port>            ok as well where there is no entry
    quit:0                      ends the process; for root and the user that runs it
    hello:2                     as the first line alone

That is the protocol of existing CDN nodes, and two verbs more. A peer that opened
with ``hello`` gets one reply line for each of its lines, ``ok`` or ``error: …``, and an
``ok`` to ``add`` means that the entry is stored: it then connects. One that did not
gets no replies, as ever. It can't know when its entry is stored, so its SYN may
leave before; the entry is then for a later packet to take (see ports.py).

A line that is refused is logged and changes nothing, and the connection goes on.
So does one that is too long, from the next newline on. What has no newline when the
peer goes is not executed: cut off, it might name another client.

`Session` is the protocol without sockets; `ControlServer` the sockets.
"""

import asyncio
import errno
import grp
import logging
import os
import resource
import socket
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cloud_toa.errors import ToaError
from cloud_toa.option import Client, IPAddress, encode
from cloud_toa.ports import PORTS, PortTable

MAX_LINE = 256
"""Bytes of a line, its newline not counted; the longest that says something has 58."""

MAX_PEERS = 1024
"""Peers at a time, or half of the files that this process may open if that is fewer."""

MAX_PATH = 107
"""Bytes of a Unix socket's path: ``sun_path`` without the final 0, see unix(7)."""

LOG_LINES = 10
"""Refusals in the log per second; of the others only the number is logged."""

_BACKLOG = 1024
_READ = 4096  # bytes at a time: what a peer's replies can grow to before it is made to wait

_VERBS = "write add:PORT:CLIENT, del:PORT or quit:0"
_CLIENTS = "write 192.0.2.7:50123 or [2001:db8::7]:50123"

_UCRED = struct.Struct("iII")  # pid, uid, gid: struct ucred, see unix(7)

_log = logging.getLogger("cloud_toa.control")


class Session:
    """One peer's side of the protocol. Never raises, whatever the bytes.

    Args:
        table: where entries go.
        kinds: the option's kinds for IPv4 and IPv6 clients.
        uid: the peer's user.
        log: takes the reason of each refusal, one line.
        counters: ``added``, ``removed`` and ``refused`` count lines.
        now: the table's clock.
    """

    def __init__(
        self,
        table: PortTable,
        kinds: tuple[int, int],
        uid: int,
        *,
        log: Callable[[str], None],
        counters: dict[str, int],
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.quit = False
        """Whether the peer asked for the end of the process, and may."""
        self._table, self._kinds, self._uid = table, kinds, uid
        self._log, self._counters, self._now = log, counters, now
        self._rest = b""
        self._skipping = False
        self._opened = False
        self._replies = False
        self._late = False

    def receive(self, data: bytes) -> list[str]:
        """Execute the lines that ``data`` completes; answer the replies, without newlines."""
        *lines, rest = (self._rest + data).split(b"\n")
        replies = []
        for line in lines:
            if self._skipping:
                self._skipping = False
            else:
                replies.append(self._answer(line.removesuffix(b"\r")))
        if self._skipping:
            rest = b""
        elif len(rest.removesuffix(b"\r")) > MAX_LINE:
            replies.append(self._answer(rest))
            self._skipping, rest = True, b""
        self._rest = rest
        return replies if self._replies else []

    def end(self) -> None:
        """The peer is gone. What has no newline is not executed."""
        if self._rest:
            line, self._rest = self._rest, b""
            self._refuse(f"{line!r:.99} has no newline: it was not executed")

    def _answer(self, line: bytes) -> str:
        first, self._opened = not self._opened, True
        if first:
            # A peer of another version reads replies too; whether it waits for them is unknown.
            self._replies = line.startswith(b"hello:")
            self._late = line != b"hello:2"
            if self._late:
                self._table.expect_late()
        try:
            self._execute(line, first)
        except ToaError as error:
            self._refuse(str(error))
            return f"error: {error}"
        return "ok"

    def _refuse(self, reason: str) -> None:
        self._counters["refused"] += 1
        self._log(reason)

    def _execute(self, line: bytes, first: bool) -> None:
        if len(line) > MAX_LINE:
            raise ToaError(f"{line[:40]!r} begins a line of more than {MAX_LINE} bytes: {_VERBS}")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ToaError(f"{line!r:.99} is not UTF-8: {_VERBS}") from None
        verb, colon, rest = text.partition(":")
        if not colon:
            raise ToaError(f"{text!r:.99} has no colon: {_VERBS}")
        if verb == "add":
            local, _, client = rest.partition(":")
            port, option = _local(local), encode(_client(client), *self._kinds)
            self._table.add(port, option, self._now(), self._late)
            self._counters["added"] += 1
        elif verb == "del":
            self._counters["removed"] += self._table.remove(_local(rest), self._now())
        elif verb == "quit":
            if rest != "0":
                raise ToaError(f"{text!r:.99} means nothing: write quit:0")
            allowed = sorted({0, os.geteuid()})
            if self._uid not in allowed:
                users = " or ".join(map(str, allowed))
                raise ToaError(f"quit:0 is not for user {self._uid}: send it as user {users}")
            self.quit = True
        elif verb == "hello":
            if not first:
                raise ToaError(f"{text!r:.99} comes too late: hello is the first line or none")
            if rest != "2":
                raise ToaError(f"version {rest!r:.99} is not spoken here: open with hello:2")
        else:
            raise ToaError(f"{verb!r:.99} is not known: {_VERBS}")


def _number(text: str) -> int:
    """A port, or 0 if ``text`` is none: decimal digits only, as in no other spelling."""
    if text.isascii() and text.isdecimal() and len(text) <= 5 and text[0] != "0":
        return int(text) if int(text) < PORTS else 0
    return 0


def _local(text: str) -> int:
    if not (port := _number(text)):
        raise ToaError(f"local port {text!r:.99} is none: write 1 to 65535, such as 40001")
    return port


def _client(text: str) -> Client:
    host, _, number = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if "%" in text:
        raise ToaError(f"client {text!r:.99} names an interface: leave out % and what follows")
    try:
        ip: IPAddress = IPv6Address(host[1:-1]) if bracketed else IPv4Address(host)
    except ValueError:
        raise ToaError(f"client {text!r:.99} is no address with a port: {_CLIENTS}") from None
    if not (port := _number(number)):
        raise ToaError(f"client {text!r:.99} has no port from 1 to 65535: {_CLIENTS}")
    return Client(ip, port)


class ControlServer:
    """The control socket at ``path``: mode 0660, of this process's user and ``group``.

    Args:
        path: replaced if it is the socket of a process that is gone.
        table: where entries go.
        kinds: the option's kinds for IPv4 and IPv6 clients.
        group: whose members may connect, beside this user; None for this process's group.
        quit: called when a peer asked for the end of the process, and may.
    """

    def __init__(
        self,
        path: Path,
        table: PortTable,
        kinds: tuple[int, int],
        group: str | None,
        quit: Callable[[], None],  # noqa: A002
    ) -> None:
        self.counters = {"added": 0, "removed": 0, "refused": 0, "peers": 0, "turned_away": 0}
        """Lines executed and refused, peers connected now, and those that were too many."""
        self._path, self._table, self._kinds, self._group = path, table, kinds, group
        self._quit = quit
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
        sock = _bound(self._path, self._group)
        self._inode = _inode(self._path)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _Peer(self), sock=sock, backlog=_BACKLOG
        )

    async def close(self) -> None:
        """Let all peers go, and remove the socket's file if it is still ours."""
        if self._server is None:
            return
        # While our socket is open, no other file can have its inode's number.
        if _inode(self._path) == self._inode:
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

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        asked = self._session.quit
        replies = self._session.receive(bytes(self._buffer[:nbytes]))
        if replies:
            self.transport.write("".join(f"{reply}\n" for reply in replies).encode())
        if self._session.quit and not asked:
            self._server._quit()

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._session.end()
        self._server._leave(self)


def _bound(path: Path, group: str | None) -> socket.socket:
    """A socket at ``path``, its group and mode set.

    Nobody can connect before they are: that takes ``listen()``, which comes later.
    """
    try:
        gid = os.getegid() if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        raise ToaError(f"group {group!r} does not exist: name one that does") from None
    if len(os.fsencode(path)) > MAX_PATH:
        raise ToaError(f"{path} is too long for a socket: use a path of {MAX_PATH} bytes at most")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _clear(path)
            sock.bind(str(path))
            try:
                os.chown(path, -1, gid)
                path.chmod(0o660)
            except OSError:
                path.unlink()
                raise
        except OSError as error:
            raise ToaError(
                f"{path} can't be made a socket: {error.strerror}: use another path or group"
            ) from None
        return sock.dup()


def _clear(path: Path) -> None:
    """Remove the socket of a process that is gone; nothing else."""
    if not path.parent.is_dir():
        raise ToaError(f"{path.parent} is no directory: make it, or use another path")
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ToaError(f"{path} is not a socket: remove it, or use another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a listener whose backlog is full would hold us up
        if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
            raise ToaError(f"{path} is in use: end the process that has it, or use another path")
    path.unlink()


def _inode(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        found = path.lstat()
        return found.st_dev, found.st_ino
    return None
