# SPDX-License-Identifier: Apache-2.0
"""Where a service listens: an address and a port, or a range of ports. Pure."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cloud_toa.errors import ToaError
from cloud_toa.option import IPAddress

_FORMS = "write 0.0.0.0:8080, [::]:8080 or 192.0.2.1:8000-8099"
_LISTEN = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+]|[0-9.]+):(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?"
)
_LAST_PORT = 65535


class AddressError(ToaError, ValueError):
    """Text that is no address to listen on."""


@dataclass(frozen=True)
class Listen:
    """An address of this host, and its ports ``first`` to ``last``."""

    ip: IPAddress
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Read ``0.0.0.0:8080``, ``[2001:db8::1]:443`` or ``192.0.2.1:8000-8099``.

        Raises:
            AddressError: it is something else.
        """
        found = _LISTEN.fullmatch(text)
        try:
            ip = ip_address(found["host"].strip("[]")) if found else None
        except ValueError:
            ip = None
        if found is None or ip is None or (ip.version == 6) != text.startswith("["):
            raise AddressError(f"{text!r} is no address to listen on: {_remedy(text)}")
        if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
            raise AddressError(f"{text!r} is IPv4: write {ip.ipv4_mapped}:{found['first']}")
        first, last = int(found["first"]), int(found["last"] or found["first"])
        if not 1 <= first <= last <= _LAST_PORT:
            raise AddressError(
                f"{text!r} has no such ports: they are 1 to {_LAST_PORT}, the lower one first"
            )
        return cls(ip, first, last)

    def overlaps(self, other: "Listen") -> bool:
        """Whether the kernel would refuse one beside the other."""
        if self.ip.version != other.ip.version:
            return False
        same = self.ip == other.ip or self.ip.is_unspecified or other.ip.is_unspecified
        return same and self.first <= other.last and other.first <= self.last

    def host(self, *, mapped: bool) -> str:
        """The address as HAProxy reads it; with ``mapped`` an IPv6 one in any case."""
        return host(self.ip, mapped=mapped)

    @property
    def ports(self) -> str:
        """As HAProxy reads them."""
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"

    def __str__(self) -> str:
        host = f"[{self.ip}]" if self.ip.version == 6 else f"{self.ip}"
        return f"{host}:{self.ports}"


def host(ip: IPAddress, *, mapped: bool) -> str:
    """An address as HAProxy reads it in front of a port; ``mapped`` IPv4 is ``::ffff:a.b.c.d``."""
    if isinstance(ip, IPv4Address):
        return f"[::ffff:{ip}]" if mapped else f"{ip}"
    return f"[{ip}]"


def _remedy(text: str) -> str:
    bare, _, port = text.rpartition(":")
    try:
        return f"write [{IPv6Address(bare)}]:{int(port)}" if "%" not in bare else _FORMS
    except ValueError:
        return _FORMS
