# SPDX-License-Identifier: Apache-2.0
"""Which sources a receiver believes: a list of the edges' networks.

Fail closed: a list with one entry that does not parse is refused whole, an empty
one too, and "everyone" must be spelled out as ``any``. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

from cloud_toa.errors import ToaError
from cloud_toa.option import IPAddress, plain

IPNetwork = IPv4Network | IPv6Network

ANY = "any"
_MAPPED = IPv6Network("::ffff:0:0/96")


class TrustError(ToaError, ValueError):
    """A trust list that can't be used; nobody is trusted on its account."""


@dataclass(frozen=True)
class Trust:
    """The sources that are believed: networks, or everyone."""

    networks: tuple[IPNetwork, ...] = ()
    everyone: bool = False

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "Trust":
        """Read a list of addresses and CIDRs, or the one word ``any``.

        Raises:
            TrustError: the list is empty, or an entry does not parse or holds every
                address of a family, which only ``any`` may.
        """
        words = [word for entry in entries for word in entry.replace(",", " ").split()]
        if not words:
            raise TrustError(
                "the trust list is empty: name the edges, such as 192.0.2.0/24, or any"
            )
        if ANY in words:
            if len(words) > 1:
                raise TrustError("'any' trusts everyone: leave the other entries of --trust out")
            return cls(everyone=True)
        return cls(tuple(dict.fromkeys(_network(word) for word in words)))

    def __contains__(self, source: IPAddress) -> bool:
        """Whether a connection from this source is believed."""
        ip = plain(source)
        return self.everyone or any(ip in network for network in self.networks)

    def __str__(self) -> str:
        return ANY if self.everyone else " ".join(map(str, self.networks))


def _network(word: str) -> IPNetwork:
    try:
        given = ip_interface(word)
    except ValueError:
        raise TrustError(
            f"{word!r} is not an address or CIDR: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
        ) from None
    if "%" in word:
        raise TrustError(f"{word!r} names an interface, which trust can't depend on: leave it out")
    network = given.network
    if given.ip != network.network_address:
        raise TrustError(f"{word!r} has bits set behind its prefix: did you mean {network}?")
    if network.prefixlen == 0:
        raise TrustError(f"{word!r} trusts everyone: if that is meant, write any")
    if isinstance(network, IPv6Network):
        # Receivers look IPv4 sources up as ::ffff:a.b.c.d, so this would match them all.
        if _MAPPED.subnet_of(network):
            raise TrustError(f"{word!r} holds every IPv4 address: if that is meant, write any")
        if network.subnet_of(_MAPPED):
            mapped = network.network_address.ipv4_mapped
            return ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network
