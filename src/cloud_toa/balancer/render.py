# SPDX-License-Identifier: Apache-2.0
"""An edge's services as HAProxy's configuration. Pure.

A service is a backend with its origins as servers, or more of them where an origin has an
address of each IP version (`families`); services that share their ports, by the name that
TLS asks for, share a frontend. Clients are named to origins by a transparent
source, which the sender turns into the option; such sockets need no privilege.

Where clients of either IP version may come to origins of the other, everything is done
with IPv6 sockets, IPv4 as ``::ffff:a.b.c.d``: a socket of one family can't be bound to
a client of the other.

Source: HAProxy 2.6, configuration manual.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.balancer.addresses import Listen
from cloud_toa.balancer.allowed import is_ip, milliseconds, network
from cloud_toa.balancer.backend import QUEUE, Transparent, backend
from cloud_toa.balancer.families import Addresses, Backend, by_tier
from cloud_toa.balancer.file_names import authority_name, certificate_files, list_file
from cloud_toa.balancer.log_line import LENGTH, Origins, Toa, log_format, map_name, map_text
from cloud_toa.balancer.settings import Origin, Service

_MIN_VERSION = {"1.2": "TLSv1.2", "1.3": "TLSv1.3"}
_TRIES = 4
_IPV4 = "{ src ::ffff:0:0/96 }"
"""Of clients whose sockets are all IPv6."""
_PAUSE = 1_000
"""Tries to connect, and milliseconds between two of these at most."""


@dataclass(frozen=True)
class Global:
    """What is set for all services: connections, threads, seconds for old ones; and sockets."""

    max_connections: int
    threads: int | None
    old_connections: str | None
    runtime: Path
    """Socket of the runtime API."""
    metrics: Path
    """Socket where HAProxy's own metrics are served by HTTP."""
    certificates: Path
    """Folder of what `certificates` has put there."""
    log: bool = True
    """Whether connections are logged on standard output."""
    syslog: str | None = None
    """Where they are logged as well."""


def configuration(
    services: tuple[Service, ...],
    settings: Global,
    addresses: Addresses,
    transparent: Transparent,
    toa: Callable[[Service, Origin], Toa],
    *,
    ipv6: bool,
    drained: bool = False,
) -> str:
    """The whole file.

    Args:
        services: what is served.
        settings: what is set for all of them.
        addresses: of origins' host names.
        transparent: asked for each origin.
        toa: what the log says of connections to this origin.
        ipv6: whether this host has IPv6.
        drained: whether no client is to be served.
    """
    lines = _global(settings)
    for members in frontends(services):
        mapped = is_mapped(members, ipv6=ipv6)
        ways = {each.name: by_tier(each, addresses, ipv6=ipv6) for each in members}
        logged = _logged(members, toa)
        lines += _frontend(members, settings, logged, ways, mapped=mapped)
        lines += ["  disabled"] if drained else []
        for service in members:
            for which in (each for tier in ways[service.name] for each in tier):
                lines += backend(
                    service, which, addresses, transparent, settings.certificates, mapped=mapped
                )
    return "\n".join(lines) + "\n"


def frontends(services: tuple[Service, ...]) -> list[list[Service]]:
    """The services by the ports that they share; most have theirs alone."""
    shared: dict[frozenset[Listen], list[Service]] = {}
    for service in services:
        shared.setdefault(frozenset(service.addresses), []).append(service)
    return list(shared.values())


def cross_family(service: Service) -> bool:
    """Whether clients of one IP version may come to origins of the other."""
    if service.proxy_from:
        return True  # it may name either
    versions = {listen.ip.version for listen in service.addresses}
    for origin in service.origin:
        for address in origin.addresses:
            if not is_ip(address):
                return True  # its name may lead to either
            versions.add(ip_address(address).version)
    return len(versions) > 1


def is_mapped(members: list[Service], *, ipv6: bool) -> bool:
    """Whether services that share their ports have IPv6 sockets alone."""
    return ipv6 and any(map(cross_family, members))


def frontend_name(services: list[Service]) -> str:
    """How the frontend of these services is called; its first service's where it has one."""
    return ":".join(service.name for service in services)


def log_maps(
    services: tuple[Service, ...], toa: Callable[[Service, Origin], Toa]
) -> dict[str, bytes]:
    """Files for what is logged, by name; they belong where certificates are."""
    found = (_logged(members, toa) for members in frontends(services))
    return {name: map_text(each).encode() for each in found if (name := map_name(each))}


def _logged(services: list[Service], toa: Callable[[Service, Origin], Toa]) -> Origins:
    return {
        (service.name, origin.name): toa(service, origin)
        for service in services
        for origin in service.origin
    }


def _global(settings: Global) -> list[str]:
    lines = [
        "# Made by cloud-toa edge run, at each start and reload: changes here are lost.",
        "global",
        f"  maxconn {settings.max_connections}",
        f"  stats socket unix@{settings.runtime} mode 600 level admin expose-fd listeners",
        "  stats timeout 1m",
        "  tune.ssl.default-dh-param 2048",
        f"  ssl-default-bind-options ssl-min-ver {_MIN_VERSION['1.2']}",
    ]
    if settings.threads:
        lines.append(f"  nbthread {settings.threads}")
    if settings.old_connections:
        lines.append(f"  hard-stop-after {settings.old_connections}")
    return [
        *lines,
        "defaults",
        "  mode tcp",
        "  option redispatch 1",
        "  option allbackups",
        f"  maxconn {settings.max_connections}",
        "frontend cloud-toa.metrics",
        f"  bind unix@{settings.metrics} mode 600",
        "  mode http",
        "  timeout client 10s",
        "  http-request use-service prometheus-exporter",
    ]


def _frontend(
    services: list[Service],
    settings: Global,
    logged: Origins,
    ways: Mapping[str, list[list[Backend]]],
    *,
    mapped: bool,
) -> list[str]:
    first = services[0]
    # Limits are counted where the client is known: behind a PROXY header, if there is one.
    rule = "tcp-request session" if first.proxy_from else "tcp-request connection"
    six = mapped or any(listen.ip.version == 6 for listen in first.addresses)
    listed = partial(_networks, mapped=six)
    lines = [f"frontend {frontend_name(services)}"]
    for listen in first.addresses:
        bind = f"  bind {listen.host(mapped=mapped)}:{listen.ports}"
        lines.append(
            bind
            + (" v6only" if listen.ip.version == 6 else "")
            + _bind_tls(services, settings.certificates)
        )
    lines += [f"  log stdout len {LENGTH} format raw local0"] if settings.log else []
    lines += [f"  log {settings.syslog} len {LENGTH} local0"] if settings.syslog else []
    if settings.log or settings.syslog:
        folder = settings.certificates
        parted = any(len(tier) > 1 for tiers in ways.values() for tier in tiers)
        text = log_format("bc_err_str", logged, folder, mapped=mapped, parted=parted)
        error = log_format("fc_err_str", {}, folder, mapped=mapped)
        lines += [f"  log-format {text}", f"  error-log-format {error}"]
    lines.append(f"  timeout client {_without_origin(services)}ms")
    if first.proxy_from:
        lines += listed("proxies", first.proxy_from)
        lines.append("  tcp-request connection expect-proxy layer4 if proxies")
    if first.max_connections:
        lines.append(f"  maxconn {first.max_connections}")
    if first.max_connections_per_client or first.new_connections_per_client:
        lines.append("  stick-table type ipv6 size 1m expire 1m store conn_cur,conn_rate(1s)")
    if first.proxy_from and mapped:
        # What PROXY names as IPv4 is nothing that an IPv6 socket could be bound to.
        lines.append("  tcp-request session set-src src,regsub(^[0-9]+[.],::ffff:\\\\0)")
    if first.deny:
        lines += listed("denied", first.deny)
        lines.append(f"  {rule} reject if denied")
    if first.allow:
        lines += listed("allowed", first.allow)
        lines.append(f"  {rule} reject unless allowed")
    if first.new_connections_per_client:
        # Before it is tracked: who is turned away does not count, and is let in a second later.
        lines.append(
            f"  {rule} reject if {{ src_conn_rate ge {first.new_connections_per_client} }}"
        )
    if first.max_connections_per_client or first.new_connections_per_client:
        lines.append(f"  {rule} track-sc0 src")
    if first.max_connections_per_client:
        lines.append(f"  {rule} reject if {{ sc0_conn_cur gt {first.max_connections_per_client} }}")
    asked = [(name, service.name) for service in services for name in service.server_names]
    # The first that fits is taken: a name itself is to come before *, and a.b before b.
    asked.sort(key=lambda each: (each[0].startswith("*."), -len(each[0])))
    for name, service_name in asked:
        lines += _choice(service_name, ways[service_name], f"{{ {_asked_for(name)} }}")
    default = next((service for service in services if not service.server_names), None)
    if default is not None:
        lines += _choice(default.name, ways[default.name])
    return lines


def _choice(service: str, tiers: list[list[Backend]], asked: str = "") -> list[str]:
    """Which of a service's backends a client comes to: of those that can take it, the first."""
    lines = []
    for tier in tiers:
        for four, six in [tier] if len(tier) > 1 else []:
            for each, client in ((four, _IPV4), (six, f"!{_IPV4}"), (four, ""), (six, "")):
                able = f"{{ nbsrv({each.name}) gt 0 }}"
                words = ("  use_backend", each.name, "if", asked, client, able)
                lines.append(" ".join(filter(None, words)))
    last = f"  use_backend {service} if {asked}" if asked else f"  default_backend {service}"
    return [*lines, last]


def _without_origin(services: list[Service]) -> int:
    """Milliseconds that a client has until an origin has taken it.

    HAProxy 2.6 has one limit for TLS with clients and PROXY protocol, and for a client that
    says nothing while a way to an origin is sought. Once there is one, ``timeout tunnel`` holds.
    """
    longest = max(milliseconds(service.connect_timeout) for service in services)
    return min(milliseconds(services[0].idle_timeout), QUEUE + _TRIES * (longest + _PAUSE))


def _networks(name: str, networks: tuple[str, ...], *, mapped: bool) -> list[str]:
    """An ACL. To HAProxy, IPv4 is also what 6to4 makes of it, unless it is mapped."""
    found = map(network, networks)
    # A line each, as HAProxy takes 64 words at most.
    return [
        f"  acl {name} src "
        + (
            f"::ffff:{each.network_address}/{96 + each.prefixlen}"
            if mapped and each.version == 4
            else f"{each}"
        )
        for each in found
    ]


def _asked_for(name: str) -> str:
    if name.startswith("*."):
        return f"ssl_fc_sni -i -m end {name[1:]}"
    return f"ssl_fc_sni -i {name}"


def _bind_tls(services: list[Service], certificates: Path) -> str:
    settings = [service.tls for service in services if service.tls is not None]
    if not settings:
        return ""
    first = settings[0]
    files = certificate_files(services, certificates)
    chosen = f"crt {files[0]}" if len(files) == 1 else f"crt-list {list_file(files, certificates)}"
    words = ["", "ssl", chosen]
    words += ["ssl-min-ver", _MIN_VERSION[first.min_version]]
    words += ["ciphers", first.ciphers] if first.ciphers else []
    words += ["ciphersuites", first.ciphersuites] if first.ciphersuites else []
    if first.client_ca:
        words += ["ca-file", str(certificates / authority_name(first.client_ca))]
        words += ["verify", "required"]
    return " ".join(words)
