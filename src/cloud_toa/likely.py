# SPDX-License-Identifier: Apache-2.0
"""Options that look like a TOA, whatever their kind: for who does not know yet which to read.

Every kind is looked at but those in use for something else. What has the length of one of the
layouts in `option` and an address and a port that a client can have looks like one. Another
vendor's option of that length may look so as well; so people are shown how often, and an example.

Pure: no sockets, no I/O. Magic numbers of experiments: RFC 7413, appendix A; RFC 6994.
"""

from collections.abc import Iterator
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Literal, NamedTuple

from cloud_toa.option import (
    CLIENT_IP_V4_LENGTH,
    CLIENT_IP_V6_LENGTH,
    IN_USE,
    USER_TIMEOUT,
    V4_LENGTH,
    V6_LENGTH,
    Client,
    IPAddress,
    Kinds,
    decode,
    options,
)

Layout = Literal["v4", "v6", "client-ip"]

_BY_LENGTH: dict[int, Layout] = {
    V4_LENGTH: "v4",
    V6_LENGTH: "v6",
    CLIENT_IP_V4_LENGTH: "client-ip",
    CLIENT_IP_V6_LENGTH: "client-ip",
}

_EXPERIMENTS = (253, 254)
_FAST_OPEN = b"\xf9\x89"
_NO_CLIENTS = IPv4Network("240.0.0.0/4")
_CLIENTS6 = (
    *(IPv6Network("2000::/3"), IPv6Network("fc00::/7"), IPv6Network("fe80::/10")),
    *(IPv6Network("::1/128"), IPv6Network("64:ff9b::/96")),
)


class Likely(NamedTuple):
    """An option that looks like a TOA, and whom it would name."""

    kind: int
    layout: Layout
    client: Client


def likely(data: bytes, *, loopback: bool, but: Kinds | None = None) -> Iterator[Likely]:
    """The options in a TCP header's (the bytes after the first 20) that look like a TOA.

    ``but``: not those that these kinds have read. ``loopback``: see `option.decode`. Never
    raises, whatever the bytes.
    """
    for _, kind, option in options(data):
        if kind in IN_USE and kind != USER_TIMEOUT:
            continue
        if kind in _EXPERIMENTS and option[2:4] == _FAST_OPEN:
            continue
        layout = _BY_LENGTH.get(len(option))
        if layout is None or (kind == USER_TIMEOUT and layout != "client-ip"):
            continue
        if but is not None and kind in of_layout(but, layout):
            continue
        client = decode(option, _only(kind, layout), loopback=loopback).client
        if client is not None and _plausible(client.ip):
            yield Likely(kind, layout, client)


def known(found: Likely, kinds: Kinds) -> bool:
    """Whether these kinds have it read already."""
    return found.kind in of_layout(kinds, found.layout)


def of_layout(kinds: Kinds, layout: Layout) -> tuple[int, ...]:
    """The kinds that may have this layout."""
    if layout == "client-ip":
        return kinds.client_ip
    return kinds.v4 if layout == "v4" else kinds.v6


@cache
def _only(kind: int, layout: Layout) -> Kinds:
    return Kinds(
        (kind,) if layout == "v4" else (),
        (kind,) if layout == "v6" else (),
        (kind,) if layout == "client-ip" else (),
    )


def _plausible(ip: IPAddress) -> bool:
    if ip.version == 4:
        return ip not in _NO_CLIENTS
    return any(ip in network for network in _CLIENTS6)
