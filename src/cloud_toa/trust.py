# SPDX-License-Identifier: Apache-2.0
"""Which sources a receiver believes: a list of the edges' networks.

Fail closed: a list with one entry that does not parse is refused whole, an empty
one too, and "everyone" must be spelled out as ``any``. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cloud_toa.errors import ToaError
from cloud_toa.networks import ANY, IPNetwork, Reader, words
from cloud_toa.option import IPAddress, plain


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
        listed = words(entries)
        if not listed:
            raise TrustError(
                "the trust list is empty: name the edges, such as 192.0.2.0/24, or any"
            )
        if ANY in listed:
            if len(listed) > 1:
                raise TrustError("'any' trusts everyone: leave the other entries of --trust out")
            return cls(everyone=True)
        return cls(tuple(dict.fromkeys(_READER.read(word, word) for word in listed)))

    def __contains__(self, source: IPAddress) -> bool:
        """Whether a connection from this source is believed."""
        ip = plain(source)
        return self.everyone or any(ip in network for network in self.networks)

    def __str__(self) -> str:
        return ANY if self.everyone else " ".join(map(str, self.networks))


_READER = Reader(
    TrustError,
    what="trust",
    everyone="trusts everyone",
    forms="write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
)
