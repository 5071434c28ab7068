# SPDX-License-Identifier: Apache-2.0
r"""What a peer says on the control socket, and is answered. Without sockets and files.

Lines end with \n, or \r\n, and have at most 256 bytes::

    add:<local port>:<client>   client as 192.0.2.7:50123 or [2001:db8::7]:50123
    del:<local port>            ok as well where there is no entry
    quit:0                      ends the process; for root and the user that runs it
    hello:2                     as the first line alone

That is the protocol of existing CDN nodes, and two verbs more. A peer that opened
with ``hello`` gets one reply line for each of its lines, ``ok`` or ``error: …``, and an
``ok`` to ``add`` means that the entry is stored: it then connects. One that did not
gets no replies, as ever. It connects as soon as it has written its line, so its SYN may
leave before the entry is stored: ports.py says which connection then has the client.

A line that is refused is logged and changes nothing, and the connection goes on.
So does one that is too long, from the next newline on. What has no newline when the
peer goes is not executed: cut off, it might name another client.
"""

import os
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from cloud_toa.errors import ToaError
from cloud_toa.option import Client, IPAddress, encode
from cloud_toa.ports import PORTS, PortTable

MAX_LINE = 256
"""Bytes of a line, its newline not counted; the longest that says something has 58."""

_VERBS = "write add:PORT:CLIENT, del:PORT or quit:0"
_CLIENTS = "write 192.0.2.7:50123 or [2001:db8::7]:50123"


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
        self._written: tuple[int, int] | None = None

    @property
    def unanswered(self) -> bool:
        """Whether the peer gets no replies, as its first line has shown."""
        return self._opened and not self._replies

    def receive(self, data: bytes, written: tuple[int, int] | None = None) -> list[str]:
        """Execute the lines that ``data`` completes; answer the replies, without newlines.

        ``written``: when ``data`` was, at the earliest and at the latest, by the table's clock,
        if known.
        """
        self._written = written
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
            self._table.add(port, option, self._now(), self._late, self._written)
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
