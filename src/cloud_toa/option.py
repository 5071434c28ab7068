# SPDX-License-Identifier: Apache-2.0
"""TOA as bytes: the client's address in a TCP option, written and read.

Wire formats (network byte order; ``kind`` is configuration, not a constant)::

    toa v4        kind 08 port[2] ip[4]
    toa v6        kind 14 port[2] ip[16]
    client-ip v4  kind 07 01 ip[4]           no port
    client-ip v6  kind 13 ver ip[16]         no port

Rules of reading, the same as in ``bpf/toa.h``: walk kind by kind; 0 ends the
list, 1 is padding; a length under 2 or past the end breaks the walk off; a known
kind with an unknown length is skipped; an address that no client can have
(unspecified, multicast, broadcast, port 0) is not used and ends the search, and so
is a loopback or link-local one, unless the connection itself came over loopback: to
its reader it would mean the reader's own host or link. The first client wins, and
gets its port from a later option with the same address where it has none; in a
chain, while it is itself an edge that is believed, the next one: a load balancer
puts its option in front of that of the edge that connects to it. An IPv4 address
inside an IPv6 layout (``::ffff:a.b.c.d``) is that IPv4 client.

Pure: no sockets, no I/O. TCP options as such: RFC 9293, section 3.2.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

from cloud_toa.errors import ToaError

IPAddress = IPv4Address | IPv6Address

MAX_OPTIONS = 40
"""Bytes of options that a TCP header can hold (a 4-bit count of 32-bit words)."""

EXPERIMENTAL = 254
"""The kind that most receivers expect. IANA's for experiments: Linux has two, in a SYN."""

V4_LENGTH = 8
V6_LENGTH = 20
CLIENT_IP_V4_LENGTH = 7
CLIENT_IP_V6_LENGTH = 19
_CLIENT_IP_VERSION = 1
_END = 0
_NOP = 1
_BROADCAST = IPv4Address("255.255.255.255")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")  # RFC 1122, 3.2.1.3
_IPV4_COMPATIBLE = IPv6Network("::/96")  # given up by RFC 4291, 2.5.5.1

USER_TIMEOUT = 28

IN_USE = {
    0: "End of Option List",
    1: "No-Operation",
    2: "Maximum Segment Size",
    3: "Window Scale",
    4: "SACK Permitted",
    5: "SACK",
    6: "Echo",
    7: "Echo Reply",
    8: "Timestamps",
    19: "MD5 Signature",
    20: "SCPS Capabilities",
    21: "SCPS Selective Negative Acknowledgements",
    22: "SCPS Record Boundaries",
    23: "SCPS Corruption Experienced",
    27: "Quick-Start Response",
    USER_TIMEOUT: "User Timeout",
    29: "TCP-AO",
    30: "Multipath TCP",
    34: "TCP Fast Open",
    69: "TCP-ENO",
    172: "Accurate ECN Order 0",
    174: "Accurate ECN Order 1",
}
"""Kinds that Linux writes or that IANA assigns to something that is deployed.

Source: IANA, TCP Option Kind Numbers. Kinds that IANA lists as obsolete or
historic and no host sends any more (9 to 18, 24, 26) are left to their users.
"""


class KindError(ToaError, ValueError):
    """A number that can't serve as the kind of a TOA."""


class Client(NamedTuple):
    """A client's address. ``port`` is None where the option's layout has none."""

    ip: IPAddress
    port: int | None

    def __str__(self) -> str:
        """As ``ip:port``, IPv6 in brackets; the address alone without a port."""
        if self.port is None:
            return str(self.ip)
        host = f"[{self.ip}]" if self.ip.version == 6 else str(self.ip)
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Kinds:
    """The kinds that a receiver accepts, per layout. A kind may stand in several.

    Raises:
        KindError: none at all, a number outside 0 to 255, or one in use for something else.
    """

    v4: tuple[int, ...] = (EXPERIMENTAL,)
    v6: tuple[int, ...] = (EXPERIMENTAL,)
    client_ip: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not (self.v4 or self.v6 or self.client_ip):
            raise KindError("no option kind is accepted: name at least one, such as 254")
        for kind in (*self.v4, *self.v6):
            check_kind(kind)
        for kind in self.client_ip:
            # Its length tells it from a User Timeout, which has 4 bytes (RFC 5482).
            if kind != USER_TIMEOUT:
                check_kind(kind)


Reason = Literal["found", "absent", "malformed", "unusable", "local"]


@dataclass(frozen=True)
class Decoded:
    """What one packet's options said.

    ``malformed``, ``unusable``, ``duplicates``, ``local`` and ``chained`` count options, as
    the receivers' counters of these names do; they can be above zero beside a client.
    """

    client: Client | None = None
    malformed: int = 0
    unusable: int = 0
    duplicates: int = 0
    local: int = 0
    chained: int = 0

    @property
    def reason(self) -> Reason:
        """Why there is a client or none, in one word."""
        if self.client is not None:
            return "found"
        if self.unusable:
            return "unusable"
        if self.local:
            return "local"
        return "malformed" if self.malformed else "absent"


def check_kind(kind: int) -> int:
    """Return ``kind`` if a TOA may use it.

    Raises:
        KindError: it is outside 0 to 255, or in use for something else.
    """
    if not 0 <= kind <= 255:
        raise KindError(f"option kind {kind} is out of range: a kind is one byte, 0 to 255")
    if kind in IN_USE:
        raise KindError(
            f"option kind {kind} is in use for {IN_USE[kind]}: choose one such as 254, 253 or 200"
        )
    return kind


def parse_kind(text: str) -> int:
    """A kind from its decimal number.

    Raises:
        KindError: not a number. (Its range is for `check_kind` to say.)
    """
    # The length, because Python refuses to convert thousands of digits.
    if not (text.isascii() and text.isdecimal() and len(text) < 100):
        raise KindError(f"option kind {text!r:.99} is not a number: write 0 to 255, such as 254")
    return int(text)


def parse_kinds(text: str) -> tuple[int, ...]:
    """Kinds from a comma-separated list, such as ``254,200``; "" is none.

    Raises:
        KindError: a part is not a decimal number. (Ranges are for `Kinds` to check.)
    """
    parts = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(parse_kind(part) for part in parts if part))


def plain(ip: IPAddress) -> IPAddress:
    """The address itself: IPv4 where it was written ``::ffff:a.b.c.d``."""
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip


def usable(ip: IPAddress) -> bool:
    """Whether a client can have this address.

    Not so: 0.0.0.0/8, ::/96 but ::1, multicast and broadcast.
    """
    ip = plain(ip)
    if isinstance(ip, IPv4Address):
        return not (ip in _THIS_NETWORK or ip.is_multicast or ip == _BROADCAST)
    return ip.is_loopback or not (ip in _IPV4_COMPATIBLE or ip.is_multicast)


def is_local(ip: IPAddress) -> bool:
    """Whether the address means another host or link to each who reads it.

    Loopback (127.0.0.0/8, ::1) and link-local (169.254.0.0/16, fe80::/10).
    """
    ip = plain(ip)
    return ip.is_loopback or ip.is_link_local


def check_client(client: Client) -> None:
    """See that there can be such a client, perhaps without a port.

    Raises:
        ToaError: its address is none that a client can have, or its port is out of range.
    """
    if not usable(client.ip) or not 0 <= (client.port or 0) < 65536:
        raise ToaError(f"{client} can't be a client: it needs a unicast address and a port")


def encode(client: Client, kind_v4: int = 254, kind_v6: int = 254) -> bytes:
    """The option that carries ``client``: 8 bytes for IPv4, 20 for IPv6.

    Raises:
        ToaError: the client has no port or an address that no client can have.
    """
    check_client(client)
    if not client.port:
        raise ToaError(f"{client} can't be a client: it needs a unicast address and a port")
    ip = plain(client.ip)
    kind, length = (kind_v4, V4_LENGTH) if ip.version == 4 else (kind_v6, V6_LENGTH)
    return bytes((kind, length)) + client.port.to_bytes(2, "big") + ip.packed


def options(data: bytes) -> Iterable[tuple[int, int, bytes]]:
    """Walk a header's options: ``(offset, kind, bytes)``, padding left out.

    Where the walk breaks off (a length under 2, missing, or past the end), the
    last item has empty bytes.
    """
    at = 0
    while at < len(data) and data[at] != _END:
        kind = data[at]
        if kind == _NOP:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            yield at, kind, b""
            return
        yield at, kind, data[at : at + length]
        at += length


def is_toa(kind: int, option: bytes, kinds: Kinds) -> bool:
    """Whether this option has the kind and length of a TOA, whatever address is in it."""
    return _read(kind, option, kinds) is not None


def decode(
    data: bytes,
    kinds: Kinds,
    *,
    loopback: bool = False,
    is_edge: Callable[[IPAddress], bool] | None = None,
) -> Decoded:
    """Find the client in a TCP header's options (the bytes after the first 20).

    ``loopback``: the packet came from a loopback address, so that both ends are one host,
    where loopback and link-local addresses mean what they say. ``is_edge``: of whom the
    option behind the one that names them is read, as is theirs; None follows no chain.

    Never raises, whatever the bytes.
    """
    client: Client | None = None
    malformed = unusable = duplicates = local = chained = 0
    accepted = {*kinds.v4, *kinds.v6, *kinds.client_ip}
    for _, kind, option in options(data):
        if not option:
            malformed += 1
        elif kind in accepted:
            found = _read(kind, option, kinds)
            if found is None:
                malformed += 1
            elif found.port == 0 or not usable(found.ip):
                unusable += 1
                break
            elif is_local(found.ip) and not loopback:
                local += 1
                break
            elif client is None or (client.port is None and found.ip == client.ip):
                client = found
            elif is_edge is not None and is_edge(client.ip):
                client = found
                chained += 1
            else:
                duplicates += 1
    return Decoded(client, malformed, unusable, duplicates, local, chained)


def _read(kind: int, option: bytes, kinds: Kinds) -> Client | None:
    length = len(option)
    if (length == V4_LENGTH and kind in kinds.v4) or (length == V6_LENGTH and kind in kinds.v6):
        return Client(plain(ip_address(option[4:])), int.from_bytes(option[2:4], "big"))
    if kind in kinds.client_ip and (
        length == CLIENT_IP_V6_LENGTH
        or (length == CLIENT_IP_V4_LENGTH and option[2] == _CLIENT_IP_VERSION)
    ):
        return Client(plain(ip_address(option[3:])), None)
    return None
