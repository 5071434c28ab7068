# SPDX-License-Identifier: Apache-2.0
"""Which destinations get the option: a list of the origins' networks and ports.

Fail closed, as `trust` does: a list with one entry that does not parse is refused
whole, an empty one too, and "everywhere" must be spelled out as ``any``. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from cloud_toa.errors import ToaError
from cloud_toa.networks import ANY, IPNetwork, Reader, words
from cloud_toa.option import IPAddress, plain, usable

_FORMS = "write 192.0.2.7, 192.0.2.0/24:443, 2001:db8::7 or [2001:db8::7]:443"
_BRACKETS = re.compile(r"\[(?P<host>[^][]*)](?P<prefix>/[^]:[]*)?(?::(?P<port>.*))?")
_NAME = re.compile(r"[\w.-]*[^\W\d_][\w.-]*")


class OriginsError(ToaError, ValueError):
    """A list of origins that can't be used; nothing is sent on its account."""


@dataclass(frozen=True)
class Destination:
    """A network, and the one port there that is meant; None is every port."""

    network: IPNetwork
    port: int | None = None

    def __str__(self) -> str:
        """As it is written: a single address without its prefix, IPv6 in brackets with a port."""
        single = self.network.prefixlen == self.network.max_prefixlen
        if self.port is None:
            return str(self.network.network_address if single else self.network)
        host = str(self.network.network_address)
        if self.network.version == 6:
            host = f"[{host}]"
        return f"{host}{'' if single else f'/{self.network.prefixlen}'}:{self.port}"


@dataclass(frozen=True)
class Origins:
    """The destinations whose connections get the option: some, or all."""

    destinations: tuple[Destination, ...] = ()
    everywhere: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "Origins":
        """Read a list of addresses and CIDRs, each perhaps with a port, or the one word ``any``.

        Raises:
            OriginsError: the list is empty, or an entry does not parse, can't be connected
                to, or holds every address of a family, which only ``any`` may.
        """
        listed = words(entries)
        if not listed:
            raise OriginsError(
                "the list of origins is empty: name them, such as 192.0.2.7:443, or any"
            )
        if ANY in listed:
            if len(listed) > 1:
                raise OriginsError(
                    "'any' means every destination: leave the other entries of --origin out"
                )
            return EVERYWHERE
        return cls(tuple(dict.fromkeys(_destination(word) for word in listed)))

    def __contains__(self, destination: tuple[IPAddress, int]) -> bool:
        """Whether connections to this address and port get the option."""
        ip, port = plain(destination[0]), destination[1]
        return self.everywhere or any(
            ip in listed.network and listed.port in (None, port) for listed in self.destinations
        )

    def __str__(self) -> str:
        return ANY if self.everywhere else " ".join(map(str, self.destinations))


EVERYWHERE = Origins(everywhere=True)


def _destination(word: str) -> Destination:
    host, port = _split(word)
    network = _network(word, host)
    return Destination(network, None if port is None else _port(word, port))


def _split(word: str) -> tuple[str, str | None]:
    """The address with its prefix, and the port where there is one."""
    if word.startswith("["):
        parts = _BRACKETS.fullmatch(word)
        if parts is None or ":" not in parts["host"]:
            raise OriginsError(f"{word!r} is not an address or CIDR: {_FORMS}")
        return parts["host"] + (parts["prefix"] or ""), parts["port"]
    if word.count(":") == 1:
        host, _, port = word.partition(":")
        return host, port
    return word, None


def _network(word: str, host: str) -> IPNetwork:
    if host == ANY:
        raise OriginsError(f"{word!r}: 'any' is every port too, write it alone")
    if _NAME.fullmatch(host):
        raise OriginsError(
            f"{word!r} is a host name, which can change its address: "
            "write the address, such as 192.0.2.7:443"
        )
    network = _READER.read(host, word)
    if not (usable(network.network_address) or usable(network.broadcast_address)):
        raise OriginsError(f"{word!r} is nowhere to connect to: write the origin's own address")
    return network


def _port(word: str, port: str) -> int:
    # The length, because Python refuses to convert thousands of digits.
    if port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535:
        return int(port)
    raise OriginsError(
        f"{word!r} has no port {port!r}: write 1 to 65535, or leave it out for every port"
    )


_READER = Reader(OriginsError, what="origins", everyone="holds every address", forms=_FORMS)
