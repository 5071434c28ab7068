# SPDX-License-Identifier: Apache-2.0
"""A service's backend in HAProxy's configuration: its origins as servers. Pure.

Source: HAProxy 2.6, configuration manual, section 5.2.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.balancer.addresses import host
from cloud_toa.balancer.allowed import is_ip
from cloud_toa.balancer.file_names import authority_name, certificate_name
from cloud_toa.balancer.settings import Origin, Service
from cloud_toa.option import IPAddress

Addresses = Mapping[str, IPAddress]
"""Where host names lead; those that lead nowhere are left out."""

QUEUE = 10_000
"""Milliseconds that a connection waits for an origin with all that it may have."""
_SYSTEM_CA = "@system-ca"
_UNKNOWN = ip_address("192.0.2.0")
"""In the place of an address that is not known yet; the server is then in maintenance."""


def backend(
    service: Service,
    addresses: Addresses,
    transparent: Callable[[Service, Origin], bool],
    certificates: Path,
    *,
    mapped: bool,
) -> list[str]:
    """Its lines.

    Args:
        service: whose it is.
        addresses: of origins' host names.
        transparent: whether connections to this origin come from the client's address.
        certificates: folder of what HAProxy is given.
        mapped: whether all sockets are IPv6.
    """
    lines = [
        f"backend {service.name}",
        f"  balance {service.algorithm}",
        *(["  hash-type consistent"] if service.algorithm == "source" else []),
        f"  timeout connect {service.connect_timeout}",
        f"  timeout server {service.idle_timeout}",
        f"  timeout tunnel {service.idle_timeout}",
        f"  timeout queue {QUEUE}ms",
    ]
    for origin in service.origin:
        server = _server(service, origin, addresses, certificates, mapped=mapped)
        if transparent(service, origin):
            server += _source(origin, addresses, mapped=mapped)
        lines.append(f"  server {server}")
    return lines


def address_of(origin: Origin, addresses: Addresses) -> IPAddress | None:
    """Where an origin is, as far as is known."""
    return ip_address(origin.address) if is_ip(origin.address) else addresses.get(origin.address)


def weight_of(origin: Origin) -> int:
    """0 lets connections go on, and gives it no new ones."""
    return 0 if origin.state == "drain" else origin.weight


def is_out(origin: Origin, addresses: Addresses) -> bool:
    """Whether it is in maintenance, as the operator wants or as it has no address."""
    return origin.state == "maintenance" or address_of(origin, addresses) is None


def _server(
    service: Service, origin: Origin, addresses: Addresses, certificates: Path, *, mapped: bool
) -> str:
    known = address_of(origin, addresses)
    address = host(known or _UNKNOWN, mapped=mapped)
    words = [origin.name, f"{address}:{origin.port}" if origin.port else address]
    words += ["weight", str(weight_of(origin))]
    if service.check.enabled:
        words += ["check", "inter", service.check.interval]
        words += ["rise", str(service.check.rise), "fall", str(service.check.fall)]
        if not origin.port:
            words += ["port", str(service.addresses[0].first)]
            # With a port of its own, HAProxy takes a check for one of something else.
            words += ["check-ssl"] if origin.verified else []
            words += ["check-send-proxy"] if origin.proxy else []
    words += ["backup"] if origin.backup else []
    words += ["maxconn", str(origin.max_connections)] if origin.max_connections else []
    if is_out(origin, addresses):
        words.append("disabled")
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
    return " ".join(words)


def _source(origin: Origin, addresses: Addresses, *, mapped: bool) -> str:
    known = address_of(origin, addresses) or _UNKNOWN
    six = mapped or known.version == 6
    # S104 is of listeners; this is the family that a connection is made from.
    return f" source {'[::]' if six else '0.0.0.0'}:0 usesrc client"  # noqa: S104
