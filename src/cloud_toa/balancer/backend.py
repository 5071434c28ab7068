# SPDX-License-Identifier: Apache-2.0
"""A backend in HAProxy's configuration: a service's origins as servers. Pure.

Source: HAProxy 2.6, configuration manual, section 5.2.
"""

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.balancer.addresses import host
from cloud_toa.balancer.families import Addresses, Backend, address_for, has_both, known
from cloud_toa.balancer.file_names import authority_name, certificate_name
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.option import IPAddress

Transparent = Callable[[Service, Origin, IPAddress | None], bool]
"""Whether connections to an origin at this address come from the client's."""

QUEUE = 10_000
"""Milliseconds that a connection waits for an origin with all that it may have."""
_SYSTEM_CA = "@system-ca"
_UNKNOWN = ip_address("192.0.2.0")
"""In the place of an address that is not known yet; the server is then in maintenance."""


def backend(
    service: Service,
    which: Backend,
    addresses: Addresses,
    transparent: Transparent,
    certificates: Path,
    *,
    mapped: bool,
) -> list[str]:
    """Its lines.

    Args:
        service: whose it is.
        which: of its backends.
        addresses: of origins' host names.
        transparent: asked for each origin.
        certificates: folder of what HAProxy is given.
        mapped: whether all sockets are IPv6.
    """
    lines = [
        f"backend {which.name}",
        f"  balance {service.algorithm}",
        *(["  hash-type consistent"] if service.algorithm == "source" else []),
        f"  timeout connect {service.connect_timeout}",
        f"  timeout server {service.idle_timeout}",
        f"  timeout tunnel {service.idle_timeout}",
        f"  timeout queue {QUEUE}ms",
    ]
    for origin in which.origins:
        address = address_for(which.version, origin, addresses)
        own = which.shared is None or has_both(origin, addresses)
        checked = _check(service, origin) if own else [f"track {which.shared}/{origin.name}"]
        server = _server(service, origin, address, checked, certificates, mapped=mapped)
        if is_out(origin, addresses):
            server.append("disabled")
        if transparent(service, origin, address):
            server += _source(address or _UNKNOWN, mapped=mapped)
        lines.append(f"  server {' '.join(server)}")
    return lines


def weight_of(origin: Origin) -> int:
    """0 lets connections go on, and gives it no new ones."""
    return 0 if origin.state == "drain" else origin.weight


def is_out(origin: Origin, addresses: Addresses) -> bool:
    """Whether it is in maintenance, as the operator wants or as it has no address."""
    return origin.state == "maintenance" or not known(origin, addresses)


def _check(service: Service, origin: Origin) -> list[str]:
    words = ["check", "inter", service.check.interval]
    words += ["rise", str(service.check.rise), "fall", str(service.check.fall)]
    if not origin.port:
        words += ["port", str(service.addresses[0].first)]
        # With a port of its own, HAProxy takes a check for one of something else.
        words += ["check-ssl"] if origin.verified else []
        words += ["check-send-proxy"] if origin.proxy else []
    return words


def _server(
    service: Service,
    origin: Origin,
    known: IPAddress | None,
    checked: list[str],
    certificates: Path,
    *,
    mapped: bool,
) -> list[str]:
    address = host(known or _UNKNOWN, mapped=mapped)
    words = [origin.name, f"{address}:{origin.port}" if origin.port else address]
    words += ["weight", str(weight_of(origin))]
    words += checked if service.check.enabled else []
    words += ["backup"] if origin.backup else []
    words += ["maxconn", str(origin.max_connections)] if origin.max_connections else []
    words += {"v1": ["send-proxy"], "v2": ["send-proxy-v2"], None: []}[origin.proxy]
    tls = origin.verified
    if tls is not None:
        words.append("ssl")
        if tls.verify:
            believed = str(certificates / authority_name(tls.ca)) if tls.ca else _SYSTEM_CA
            words += ["verify", "required", "ca-file", believed]
            words += ["verifyhost", str(origin.server_name)]
        else:
            words += ["verify", "none"]
        if origin.server_name:
            words += ["sni", f"str({origin.server_name})", "check-sni", origin.server_name]
        if tls.certificate:
            words += ["crt", str(certificates / certificate_name(tls.certificate, tls.key))]
    return words


def _source(address: IPAddress, *, mapped: bool) -> list[str]:
    six = mapped or address.version == 6
    # S104 is of listeners; this is the family that a connection is made from.
    return ["source", f"{'[::]' if six else '0.0.0.0'}:0", "usesrc", "client"]  # noqa: S104
