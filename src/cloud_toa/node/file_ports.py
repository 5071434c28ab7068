# SPDX-License-Identifier: Apache-2.0
"""Which ports of an edge's file may be shared, and by whom. Pure."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.allowed import SettingsError
from cloud_toa.balancer.render import frontends
from cloud_toa.balancer.rules import Mistakes
from cloud_toa.balancer.settings import Service
from cloud_toa.node.settings import parse_address

_TLS = ("min_version", "ciphers", "ciphersuites", "client_ca")
_BEFORE_THE_NAME = (
    *("allow", "deny", "proxy_from", "max_connections", "max_connections_per_client"),
    *("new_connections_per_client", "idle_timeout"),
    *_TLS,
)


def metrics(address: str, services: tuple[Service, ...]) -> Mistakes:
    """Metrics that are served where a service listens."""
    host, port = parse_address(address)
    ip = ip_address(host)
    own = [Listen(getattr(ip, "ipv4_mapped", None) or ip, port, port)]
    if own[0].ip == IPv6Address("::"):
        own.append(Listen(IPv4Address(0), port, port))  # its socket takes IPv4 as well
    for service in services:
        for listen in service.addresses:
            if any(map(listen.overlaps, own)):
                yield SettingsError(
                    f"metrics {address} and service {service.name} at {listen} have addresses in "
                    "common: give one another port",
                    "metrics",
                )


def overlapping(services: tuple[Service, ...]) -> Mistakes:
    """Services that have some ports in common, and not all."""
    places = {id(service): at for at, service in enumerate(services)}
    listens = [
        (listen, members[0]) for members in frontends(services) for listen in members[0].addresses
    ]
    listens.sort(key=lambda each: (each[0].first, places[id(each[1])]))
    before: list[tuple[Listen, Service]] = []
    for listen, service in listens:
        before = [each for each in before if each[0].last >= listen.first]
        for other, its in before:
            if its is not service and listen.overlaps(other):
                yield SettingsError(
                    f"services {its.name} and {service.name} listen on {other} and {listen}, "
                    "which have addresses in common: give one another port, or have TLS in both "
                    "and the same listen",
                    *("service", max(places[id(its)], places[id(service)]), "listen"),
                )
        before.append((listen, service))


def shared(services: tuple[Service, ...]) -> Mistakes:
    """Services on the same ports that TLS can't tell apart."""
    places = {id(service): at for at, service in enumerate(services)}
    for members in frontends(services):
        yield from _shared(members, places)


def _shared(members: list[Service], places: dict[int, int]) -> Mistakes:
    first = members[0]
    names: dict[str, Service] = {}
    nameless: Service | None = None
    for service in members:
        at = places[id(service)]
        if service is not first and (why := _difference(first, service)):
            yield SettingsError(
                f"services {first.name} and {service.name} both listen on "
                f"{first.addresses[0]}{why[0]}",
                *("service", at, why[1]),
            )
            continue
        if not service.server_names:
            if nameless is not None:
                yield SettingsError(
                    f"services {nameless.name} and {service.name} both listen on "
                    f"{first.addresses[0]}, and neither has server_names to tell them apart",
                    *("service", at),
                )
            nameless = nameless or service
        for name in service.server_names:
            other = names.setdefault(name.lower(), service)
            if other is not service:
                yield SettingsError(
                    f"services {other.name} and {service.name} both have the server name {name}: "
                    "leave it out of one",
                    *("service", at, "server_names"),
                )


def _difference(one: Service, other: Service) -> tuple[str, str] | None:
    """Why two can't share their ports, as the rest of a sentence; and by which key."""
    if one.tls is None or other.tls is None:
        return ": give one another port", "listen"
    for key in _BEFORE_THE_NAME:
        if _of(one, key) != _of(other, key):
            what = "applies before the client says what name it wants"
            return f" and differ in {key}, which {what}: write the same in both", key
    return None


def _of(service: Service, key: str) -> object:
    return getattr(service.tls if key in _TLS else service, key)
