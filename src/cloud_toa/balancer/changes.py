# SPDX-License-Identifier: Apache-2.0
"""What HAProxy can be told at run time to get from some settings to others. Pure.

Weights, draining, maintenance, origins' numbers of connections, and the addresses of names,
unless one comes to have addresses of both IP versions, or no longer has.
All else takes a reload: that is whenever the configuration without these differs. So does a
service's number of connections: told to raise one that is reached, HAProxy 2.6.12 locks up.

Source: HAProxy 2.6, management guide, section 9.3.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from cloud_toa.balancer.backend import is_out, weight_of
from cloud_toa.balancer.families import Addresses, address_for, backends
from cloud_toa.balancer.render import frontends, is_mapped
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.option import IPAddress

_Place = tuple[IPAddress | None, bool]
"""Where a server is, and whether it is out."""


def without(services: tuple[Service, ...]) -> tuple[Service, ...]:
    """The same services with nothing in them that can be told at run time."""
    return tuple(
        replace(
            service,
            origin=tuple(
                replace(origin, weight=1, state="active", max_connections=None)
                for origin in service.origin
            ),
        )
        for service in services
    )


def commands(
    services: tuple[Service, ...],
    before: tuple[Service, ...],
    addresses: Addresses,
    addresses_before: Addresses,
    *,
    ipv6: bool,
) -> list[str]:
    """Commands of the runtime API; of services that differ in nothing else.

    Args:
        services: what is wanted.
        before: what there is.
        addresses: where names lead now.
        addresses_before: where they led before.
        ipv6: as in `render.configuration`.
    """
    found: list[str] = []
    for members, former in zip(frontends(services), frontends(before), strict=True):
        mapped = is_mapped(members, ipv6=ipv6)
        for new, old in zip(members, former, strict=True):
            # Of names, those that had both addresses have them still.
            for which, former_one in zip(
                backends(new, addresses, ipv6=ipv6),
                backends(old, addresses_before, ipv6=ipv6),
                strict=True,
            ):
                for origin, was in zip(which.origins, former_one.origins, strict=True):
                    server = f"{which.name}/{origin.name}"
                    found += _server(server, origin, was)
                    place = (
                        address_for(which.version, origin, addresses),
                        is_out(origin, addresses),
                    )
                    old_place = (
                        address_for(which.version, was, addresses_before),
                        is_out(was, addresses_before),
                    )
                    found += _place(server, place, old_place, mapped=mapped)
    return found


def _server(server: str, origin: Origin, former: Origin) -> Iterator[str]:
    if weight_of(origin) != weight_of(former):
        yield f"set server {server} weight {weight_of(origin)}"
    if origin.max_connections != former.max_connections:
        yield f"set maxconn server {server} {origin.max_connections or 0}"


def _place(server: str, place: _Place, former: _Place, *, mapped: bool) -> Iterator[str]:
    (new, out), (old, was_out) = place, former
    if new is not None and new != old:
        text = f"::ffff:{new}" if mapped and new.version == 4 else f"{new}"
        yield f"set server {server} addr {text}"
    if out != was_out:
        yield f"set server {server} state {'maint' if out else 'ready'}"
