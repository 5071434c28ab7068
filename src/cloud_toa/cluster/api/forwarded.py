# SPDX-License-Identifier: Apache-2.0
"""Where a call comes from that a reverse proxy hands on, and whether it came by TLS.

By ``X-Forwarded-For`` and ``X-Forwarded-Proto``. Each proxy writes at the end of the former whom
it was asked by, so entries count from the end, and only as far as trusted proxies wrote them; what
is before may be anybody's invention. uvicorn's own middleware takes whatever is there for an
address, and does not know IPv4 that is written ``::ffff:a.b.c.d``, as it is where a server listens
on ``[::]``.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_toa.errors import ToaError
from cloud_toa.networks import IPNetwork, Reader
from cloud_toa.option import IPAddress, plain

_READER = Reader(
    ToaError,
    what="--trusted-proxy",
    everyone="lets everybody say who he is",
    forms="write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
    meant="name the reverse proxies alone",
)


def proxies(words: Iterable[str]) -> tuple[IPNetwork, ...]:
    """Read addresses and CIDRs.

    Raises:
        ToaError: one is none, or holds all addresses.
    """
    return tuple(_READER.read(word, word) for word in words)


class Forwarded:
    """Around everything else: so that limits, logs, cookies and links are the client's."""

    def __init__(self, app: ASGIApp, trusted: Sequence[IPNetwork]) -> None:
        self._app, self._trusted = app, trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on."""
        if scope["type"] == "http" and scope.get("client"):
            source = scope["client"][0]
            if says_tls(source, _values(scope, b"x-forwarded-proto"), self._trusted):
                scope["scheme"] = "https"
            said = _values(scope, b"x-forwarded-for")
            scope["client"] = (client(source, said, self._trusted), 0)
        await self._app(scope, receive, send)


def client(source: str, said: Sequence[bytes], trusted: Sequence[IPNetwork]) -> str:
    """The client of a connection from ``source``, which itself is it where nothing else counts.

    Args:
        source: an address.
        said: values of the header ``X-Forwarded-For``, in order.
        trusted: whose entries count.
    """
    try:
        found = _address(source)
        for entry in reversed(b",".join(said).decode("latin-1").split(",") if said else []):
            if not any(found in network for network in trusted):
                break
            found = _address(entry.strip())
    except ValueError:
        return source
    return str(found)


def says_tls(source: str, said: Sequence[bytes], trusted: Sequence[IPNetwork]) -> bool:
    """Whether the proxy at ``source`` says that it was asked by TLS.

    Args:
        source: an address.
        said: values of the header ``X-Forwarded-Proto``. Of several, some may be the client's.
        trusted: whose word counts.
    """
    if [value.strip().lower() for value in said] != [b"https"]:
        return False
    try:
        found = _address(source)
    except ValueError:
        return False
    return any(found in network for network in trusted)


def _values(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _address(text: str) -> IPAddress:
    if "%" in text:  # behind which Python takes anything for an interface
        raise ValueError(text)
    return plain(ip_address(text))
