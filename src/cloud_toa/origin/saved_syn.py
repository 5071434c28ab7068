# SPDX-License-Identifier: Apache-2.0
"""The client from the SYN that the kernel kept: no root, no eBPF, no module.

A listener with ``TCP_SAVE_SYN`` has the kernel keep the headers of every SYN that
becomes a connection; ``TCP_SAVED_SYN`` on the accepted socket hands them out: IP
header, then TCP header with all its options. It does so once, and frees them; so
the answer is kept here, for as long as the connection's object lives.

Rules:

- Trust is checked against the source in the saved IP header. That is the true
  peer, also where an eBPF receiver has ``getpeername()`` answer the client.
- Fail closed: a connection of a listener that was not prepared is an error, and
  whatever is odd about the bytes means that no client is known.
- What `prepare` was told is remembered by the listener's address, in this process
  and in those that it forks (gunicorn's workers), not in those that it spawns.

Limits: the option must be on the SYN, where this project's senders put it by
default. They leave it off, and send it with the third packet alone, where the
network seems to drop such SYNs and where Linux would take it for a Fast Open
request (a client's port 63881 in kind 254). And no SYN is kept of a connection from
before `prepare`, or made by a SYN cookie, under attack. The eBPF receiver knows
the client in each of these cases.

With socket activation, the connection that starts the service is one from before
`prepare`, which logs a warning then. What was set stays with the service manager's
socket, so later starts have no such gap.

Sources: tcp(7); Linux, net/ipv4/tcp.c, ``TCP_SAVED_SYN`` (4.2 and later), and
``tcp_get_info()``: ``tcpi_unacked`` of a listener is what waits to be accepted.
"""

import errno
import logging
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

from cloud_toa import api
from cloud_toa.config import OriginSettings
from cloud_toa.errors import ToaError
from cloud_toa.option import Client, Kinds, decode, plain
from cloud_toa.packet import Packet, PacketError
from cloud_toa.trust import Trust

# linux/tcp.h; the socket module has no names for them.
TCP_SAVE_SYN = 27
TCP_SAVED_SYN = 28

# The most that Python reads of an option. The headers are 120 bytes at most in
# IPv4; longer extension headers in IPv6 are nobody's who puts a TOA behind them.
_BUFFER = 1024

# linux/tcp.h, struct tcp_info: tcpi_state first, tcpi_unacked behind 8 bytes and 4 words.
_LISTEN = 10
_INFO = struct.Struct("=B23xI")

_log = logging.getLogger(__name__)


class NotPreparedError(ToaError):
    """Asked for the client of a connection whose listener was not prepared."""


class Listener(Protocol):
    """What is asked of a listener: `socket.socket` has it, and what wraps one."""

    def getsockname(self) -> object:
        """As `socket.socket.getsockname`."""

    def setsockopt(self, level: int, optname: int, value: int, /) -> None:
        """As `socket.socket.setsockopt`."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        """As `socket.socket.getsockopt`."""


class Connection(api.Connection, Protocol):
    """What is asked of a connection: `socket.socket` has it, and what wraps one."""

    def getsockname(self) -> object:
        """As `socket.socket.getsockname`."""


class _Settings(NamedTuple):
    trust: Trust
    kinds: Kinds
    chain: bool


_prepared: dict[tuple[str, int], _Settings] = {}
_answers: WeakKeyDictionary[object, Client | None] = WeakKeyDictionary()


def prepare(
    listener: Listener,
    trust: Iterable[str] | Trust,
    kinds: Kinds | None = None,
    *,
    chain: bool = False,
) -> None:
    """Have the kernel keep the SYN of connections to this listener from now on.

    Call it after ``bind()`` and, so as to miss none, before ``listen()``. It may be
    called again with other settings; they hold for the listener's address and port.
    Connections that wait already, and of which no SYN was kept, are logged as a warning.

    Args:
        listener: a TCP socket; a wildcard address and dual-stack are fine.
        trust: the edges: addresses and CIDRs such as ``["192.0.2.0/24"]``, or
            ``["any"]``.
        kinds: the option kinds to read; without, 254 for both families.
        chain: where the client that is named is itself in ``trust``, the next option
            names whom it serves. Not with ``["any"]``.

    Raises:
        ToaError: the trust list is refused (`TrustError`), a chain where everyone is
            trusted, or the socket is not bound. Nothing was changed.
        OSError: not a TCP socket (ENOPROTOOPT, EOPNOTSUPP).

    Source: tcp(7), ``TCP_SAVE_SYN``.
    """
    asked = OriginSettings(
        trust if isinstance(trust, Trust) else Trust.parse(trust), kinds or Kinds(), chain=chain
    )
    settings = _Settings(asked.trust, asked.kinds, asked.chain)
    address = _address(listener)
    if address is None:
        raise ToaError("the listener has no address and port yet: call bind() before prepare()")
    kept = any(listener.getsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 4))
    listener.setsockopt(socket.IPPROTO_TCP, TCP_SAVE_SYN, 1)
    _prepared[address] = settings
    if not kept and (waiting := _waiting(listener)):
        _log.warning(
            "%s at %s came before prepare(), so no client is known of it: a socket that a service "
            "manager opens needs its service started before its visitors come (enable the service "
            "as well as the socket), or the eBPF receiver; other servers call prepare() before "
            "listen()", "1 connection" if waiting == 1 else f"each of {waiting} connections",
            Client(ip_address(address[0]), address[1]),
        )  # fmt: skip


def client_of(conn: Connection, owner: object | None = None) -> Client | None:
    """The client that a trusted edge named in the SYN of this accepted connection.

    The first call reads, later ones repeat its answer. Call it for one connection
    from one thread at a time, and, for TLS, with the same object: `ssl` makes a new
    one when it wraps a socket.

    Args:
        conn: a connection accepted from a listener that was prepared.
        owner: the object whose life the answer is kept for, where ``conn`` can't be
            referenced weakly or comes and goes: with asyncio the transport (or its
            ``ssl_object``: uvloop's TLS transport can't be referenced weakly either).

    Returns:
        The client, its port in the host's byte order, or None in it where the
        option's layout has none; None where the SYN had no TOA or is not known, or
        came from a source that is not trusted.

    Raises:
        NotPreparedError: `prepare` was not called in this process, or its parent, for the
            listener; or the connection is not TCP.
        TypeError: the owner can't be referenced weakly (asyncio's TransportSocket).
            The kernel was not asked.
        OSError: the socket is closed (EBADF).

    Source: the saved SYN, network byte order, decoded by `option.decode`.
    """
    owner = conn if owner is None else owner
    if owner in _answers:
        return _answers[owner]
    settings = _settings(conn)
    # Whatever can go wrong does so before the kernel gives its only answer.
    _answers[owner] = None
    try:
        _answers[owner] = read(_saved(conn), *settings)
    except OSError:
        del _answers[owner]
        raise
    return _answers[owner]


def read(syn: bytes, trust: Trust, kinds: Kinds, chain: bool = False) -> Client | None:
    """The client in a SYN's headers (IP and TCP, network byte order), if it is trusted.

    Never raises, whatever the bytes.
    """
    try:
        packet = Packet.parse(_without_payload(syn))
    except PacketError:
        return None
    source, _ = packet.source
    if source not in trust:
        return None
    return decode(
        packet.options,
        kinds,
        loopback=plain(source).is_loopback,
        is_edge=trust.__contains__ if chain else None,
    ).client


def _waiting(listener: Listener) -> int:
    """Connections that wait to be accepted; those whose handshake is under way are not seen."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    state, waiting = _INFO.unpack(info)
    return int(waiting) if state == _LISTEN else 0


def _saved(conn: Connection) -> bytes:
    try:
        return conn.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, _BUFFER)
    except OSError as error:
        # The headers are longer than that; a stranger's packet is no error of ours.
        if error.errno == errno.EINVAL:
            return b""
        raise


def _without_payload(syn: bytes) -> bytes:
    """The headers with a length that speaks of them alone: Fast Open's SYNs have data."""
    if syn[:1] and syn[0] >> 4 == 4:
        return syn[:2] + len(syn).to_bytes(2, "big") + syn[4:]
    return syn[:4] + max(len(syn) - 40, 0).to_bytes(2, "big") + syn[6:]


def _settings(conn: Connection) -> _Settings:
    address = _address(conn)
    if address is not None:
        host, port = address
        wildcard = str(IPv6Address(0)) if ":" in host else str(IPv4Address(0))
        settings = _prepared.get(address) or _prepared.get((wildcard, port))
        if settings is not None:
            return settings
    raise NotPreparedError(
        f"no listener was prepared for {address or 'this socket'}: "
        "call saved_syn.prepare(listener, trust=...) in this process or before it forks"
    )


def _address(sock: Listener | Connection) -> tuple[str, int] | None:
    name = sock.getsockname()
    # A Unix socket's is a string; one that is not bound has port 0.
    return name[:2] if isinstance(name, tuple) and name[1] else None
