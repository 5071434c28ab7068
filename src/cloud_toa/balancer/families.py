# SPDX-License-Identifier: Apache-2.0
"""Which address of an origin is for which clients. Pure.

An origin may have an address of each IP version, and servers may tell the two apart: so a
client comes to that of its own. HAProxy knows one address for a server. So a service with
such an origin has its backend twice, for clients of either version, with all origins in
both: one that has but one address is there with the same, and its check is shared. Where
none of a backend can take connections, the other one is used; before that of the backups,
which therefore have backends of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from cloud_toa.balancer.allowed import is_ip
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.option import IPAddress

Version = Literal[4, 6]
Addresses = Mapping[str, tuple[IPAddress, ...]]
"""Where host names lead, one address of an IP version; those that lead nowhere are left out."""

_PART = "::"
"""Between a service's name and its part; the names of services that share a port have one colon."""
_ANY = (ip_address("192.0.2.0"), ip_address("2001:db8::"))


@dataclass(frozen=True)
class Backend:
    """A backend of HAProxy."""

    name: str
    version: Version
    """Whose address counts of an origin that has both."""
    origins: tuple[Origin, ...]
    shared: str | None = None
    """The backend that checks those that have one address."""


def known(origin: Origin, addresses: Addresses) -> tuple[IPAddress, ...]:
    """Where an origin is, as far as is known."""
    first = origin.addresses[0]
    return tuple(map(ip_address, origin.addresses)) if is_ip(first) else addresses.get(first, ())


def address_for(version: Version, origin: Origin, addresses: Addresses) -> IPAddress | None:
    """Where clients of this IP version find an origin; None where nobody does."""
    found = known(origin, addresses)
    return next((each for each in found if each.version == version), found[0] if found else None)


def has_both(origin: Origin, addresses: Addresses) -> bool:
    """Whether an origin has an address of each IP version."""
    return len(known(origin, addresses)) > 1


def by_tier(service: Service, addresses: Addresses, *, ipv6: bool) -> list[list[Backend]]:
    """A service's backends: a list of those that are used together, then one of the next.

    Args:
        service: whose they are.
        addresses: of origins' host names.
        ipv6: whether this host has IPv6; else there is but IPv4 to choose.
    """
    if not ipv6 or not any(has_both(origin, addresses) for origin in service.origin):
        return [[Backend(service.name, 4, service.origin)]]
    usual = tuple(origin for origin in service.origin if not origin.backup)
    backups = tuple(origin for origin in service.origin if origin.backup)
    return [
        [Backend(four, 4, origins), Backend(f"{service.name}{_PART}ipv6{end}", 6, origins, four)]
        for origins, end in ((usual or backups, ""), (backups if usual else (), f"{_PART}backup"))
        if origins
        for four in (f"{service.name}{end}",)
    ]


def backends(service: Service, addresses: Addresses, *, ipv6: bool) -> list[Backend]:
    """All of them, see `by_tier`."""
    return [each for tier in by_tier(service, addresses, ipv6=ipv6) for each in tier]


def split(backend: str) -> tuple[str, str]:
    """Of a backend's name, the service's; and what it is of it, which is empty for most."""
    service, _, part = backend.partition(_PART)
    return service, part


def version_of(backend: str) -> Version:
    """Whose address counts there."""
    return 6 if split(backend)[1].startswith("ipv6") else 4


def without_places(addresses: Addresses) -> Addresses:
    """The same names having both addresses, whichever; what differs in no more has one shape."""
    return {name: _ANY for name, found in addresses.items() if len(found) > 1}
