# SPDX-License-Identifier: Apache-2.0
"""Networks in a list that an operator wrote, where an error must not widen the list. Pure.

IPv4 is also written ``::ffff:a.b.c.d`` inside the kernel's programs, which look both
families up in one tree: hence the care with IPv6 networks that hold or lie in that range.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

from cloud_toa.errors import ToaError

IPNetwork = IPv4Network | IPv6Network

ANY = "any"
_MAPPED = IPv6Network("::ffff:0:0/96")


def words(entries: Iterable[str]) -> list[str]:
    """The words of a list: separated by spaces or commas, or in entries of their own."""
    return [word for entry in entries for word in entry.replace(",", " ").split()]


@dataclass(frozen=True)
class Reader:
    """Reads the networks of one kind of list.

    ``error`` is what it raises, ``what`` the list's name, ``everyone`` what a network of
    all addresses would do, ``forms`` how an entry is written, ``meant`` what to do if all
    addresses are meant.
    """

    error: type[ToaError]
    what: str
    everyone: str
    forms: str
    meant: str = "if that is meant, write any"

    def read(self, host: str, word: str) -> IPNetwork:
        """The network that ``host`` is, of the entry ``word``.

        Raises:
            ToaError: of the type ``error``: no address or CIDR, or not one that can be meant.
        """
        try:
            given = ip_interface(host)
        except ValueError:
            raise self.error(f"{word!r} is not an address or CIDR: {self.forms}") from None
        if "%" in host:
            raise self.error(
                f"{word!r} names an interface, which {self.what} can't depend on: leave it out"
            )
        network = given.network
        if given.ip != network.network_address:
            raise self.error(f"{word!r} has bits set behind its prefix: did you mean {network}?")
        if network.prefixlen == 0:
            raise self.error(f"{word!r} {self.everyone}: {self.meant}")
        if isinstance(network, IPv6Network):
            if _MAPPED.subnet_of(network):
                raise self.error(f"{word!r} holds every IPv4 address: {self.meant}")
            if network.subnet_of(_MAPPED):
                mapped = network.network_address.ipv4_mapped
                return ip_network(f"{mapped}/{network.prefixlen - 96}")
        return network
