# SPDX-License-Identifier: Apache-2.0
"""Which ports of an edge's file may be shared, and by whom. Pure."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.allowed import SettingsError
from cloud_toa.balancer.render import frontends
from cloud_toa.balancer.settings import Service
from cloud_toa.node.settings import parse_address

_TLS = ("min_version", "ciphers", "ciphersuites", "client_ca")
_BEFORE_THE_NAME = (
    *("allow", "deny", "proxy_from", "max_connections", "max_connections_per_client"),
    *("new_connections_per_client", "idle_timeout"),
    *_TLS,
)


def check_metrics(metrics: str, services: tuple[Service, ...]) -> None:
    """See that metrics are served where no service listens.

    Raises:
        SettingsError: one does.
    """
    host, port = parse_address(metrics)
    ip = ip_address(host)
    own = [Listen(getattr(ip, "ipv4_mapped", None) or ip, port, port)]
    if own[0].ip == IPv6Address("::"):
        own.append(Listen(IPv4Address(0), port, port))  # its socket takes IPv4 as well
    for service in services:
        for listen in service.addresses:
            if any(map(listen.overlaps, own)):
                raise SettingsError(
                    f"metrics {metrics} and service {service.name} at {listen} have addresses in "
                    "common: give one another port",
                    "metrics",
                )


def check(services: tuple[Service, ...]) -> None:
    """See that services on the same ports can be told apart, and no others share some.

    Raises:
        SettingsError: they can't, or do.
    """
    places = {service.name: at for at, service in enumerate(services)}
    listens: list[tuple[Listen, Service]] = []
    for members in frontends(services):
        _check_shared(members, places)
        listens += ((listen, members[0]) for listen in members[0].addresses)
    listens.sort(key=lambda each: (each[0].first, places[each[1].name]))
    before: list[tuple[Listen, Service]] = []
    for listen, service in listens:
        before = [each for each in before if each[0].last >= listen.first]
        for other, its in before:
            if its is not service and listen.overlaps(other):
                raise SettingsError(
                    f"services {its.name} and {service.name} listen on {other} and {listen}, "
                    "which have addresses in common: give one another port, or have TLS in both "
                    "and the same listen",
                    *("service", max(places[its.name], places[service.name]), "listen"),
                )
        before.append((listen, service))


def _check_shared(members: list[Service], places: dict[str, int]) -> None:
    """See that TLS tells apart these, which share their ports."""
    first = members[0]
    names: dict[str, Service] = {}
    nameless: Service | None = None
    for service in members:
        if service is not first and (why := _difference(first, service)):
            raise SettingsError(
                f"services {first.name} and {service.name} both listen on "
                f"{first.addresses[0]}{why[0]}",
                *("service", places[service.name], why[1]),
            )
        if not service.server_names:
            if nameless is not None:
                raise SettingsError(
                    f"services {nameless.name} and {service.name} both listen on "
                    f"{first.addresses[0]}, and neither has server_names to tell them apart",
                    *("service", places[service.name]),
                )
            nameless = service
        for name in service.server_names:
            other = names.setdefault(name.lower(), service)
            if other is not service:
                raise SettingsError(
                    f"services {other.name} and {service.name} both have the server name {name}: "
                    "leave it out of one",
                    *("service", places[service.name], "server_names"),
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
