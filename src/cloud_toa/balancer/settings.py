# SPDX-License-Identifier: Apache-2.0
"""What a service is: where it listens, where its origins are, and what it allows. Pure.

Fields are named as in an edge's TOML file, and their docstrings are its reference.
What can't be meant is refused when a value is made; the message says the remedy.
"""

from typing import Annotated, Literal

from msgspec import Meta

from cloud_toa.balancer.addresses import AddressError, Listen
from cloud_toa.balancer.allowed import (
    Count,
    Duration,
    Port,
    SettingsError,
    check_name,
    check_origin,
    check_server_name,
    is_ip,
    network,
)
from cloud_toa.balancer.rules import Mistakes, Rule, Ruled, refused, refused_at
from cloud_toa.balancer.tls import Certificate, OriginTls, ServiceTls


class Check(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether an origin is there is tried by connecting to it; with TLS where that has TLS.

    An origin without a port is tried at the first port that its service listens on.
    """

    enabled: bool = True
    interval: Duration = "2s"
    """Between two tries; and the longest that one may take, TLS included."""
    rise: Annotated[int, Meta(ge=1, le=100)] = 2
    """So many good tries in a row bring an origin back."""
    fall: Annotated[int, Meta(ge=1, le=100)] = 3
    """So many failed ones take it out."""


class Origin(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A server that a service's connections go to."""

    address: str | Annotated[tuple[str, ...], Meta(min_length=2, max_length=2)]
    """An IP address, one of each IP version as a list, or a host name.

    A name is looked up again and again. Where there are both addresses, clients come to the one
    of their own IP version; to the other one where no origin can be reached by theirs.
    """
    port: Port | None = None
    """The port that the client connected to where it is left out."""
    weight: Annotated[int, Meta(ge=0, le=256)] = 1
    backup: bool = False
    """Used when no origin is there that is no backup."""
    toa: bool | None = None
    """The service's where it is left out; off with ``proxy``."""
    proxy: Literal["v1", "v2"] | None = None
    """The client is named by PROXY protocol, which the origin must expect."""
    state: Literal["active", "drain", "maintenance"] = "active"
    """``drain``: no new connections. ``maintenance``: the same, and no checks. Others go on."""
    max_connections: Count | None = None
    """More wait for up to 10 s, or go to another origin.

    In a service with an origin that has both addresses: from IPv4 clients, and as many from IPv6
    clients.
    """
    tls: bool | OriginTls = False

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (lambda: check_origin(self.address), self._named_once, self._verifiable)

    def _named_once(self) -> Mistakes:
        if self.toa and self.proxy:
            yield SettingsError(
                f"origin {self.addresses[0]} has toa = true and proxy = {self.proxy!r}: "
                "one of them names the client, leave the other out",
                "proxy",
            )

    def _verifiable(self) -> Mistakes:
        tls = self.verified
        if tls is not None and tls.verify and not self.server_name:
            yield SettingsError(
                f"origin {self.addresses[0]} has TLS, and an address says nothing of its "
                "certificate: give tls.server_name, or tls.verify = false",
                "tls",
            )

    @property
    def name(self) -> str:
        """As it is called in logs and by the balancer."""
        first = self.addresses[0]
        return f"{first}:{self.port}" if self.port else first

    @property
    def addresses(self) -> tuple[str, ...]:
        """One or two, as they are written."""
        return (self.address,) if isinstance(self.address, str) else self.address

    @property
    def verified(self) -> OriginTls | None:
        """Its TLS settings, defaults filled in; None without TLS."""
        if isinstance(self.tls, OriginTls):
            return self.tls
        return OriginTls() if self.tls else None

    @property
    def server_name(self) -> str | None:
        """What the origin's certificate must be for."""
        tls = self.verified
        if tls is not None and tls.server_name:
            return tls.server_name
        first = self.addresses[0]
        return None if is_ip(first) else first


class Service(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that the edge serves."""

    name: str
    listen: Annotated[tuple[str, ...], Meta(min_length=1)]
    """``IP:port``, ``[IPv6]:port``, or a range of ports ``IP:8000-8099``."""
    origin: Annotated[tuple[Origin, ...], Meta(min_length=1)]
    protocol: Literal["tcp", "tls"] = "tcp"
    """``tls``: TLS ends here, by ``[service.tls]``."""
    tls: ServiceTls | None = None
    server_names: tuple[str, ...] = ()
    """TLS: the names that are this service's, where several share a port.

    ``*.example.com`` is any name that ends so. The longest that fits counts, a whole name
    first. Other names are the service's that has no names; without one, they are refused.
    """
    toa: bool = True
    """Whether origins are told the client in a TCP option."""
    algorithm: Literal["roundrobin", "leastconn", "source", "random"] = "roundrobin"
    check: Check = Check()
    connect_timeout: Duration = "5s"
    """For one try. There are four, each at another origin where there is one."""
    idle_timeout: Duration = "1h"
    """A connection on which nothing passes, either way, for so long is ended.

    Until an origin has taken it, TLS and PROXY protocol included, it has no more than 14 s and
    four times ``connect_timeout``.
    """
    max_connections: Count | None = None
    """More wait until one has ended."""
    max_connections_per_client: Count | None = None
    """By client address; more are refused. Those from before a reload do not count after it."""
    new_connections_per_client: Count | None = None
    """In one second, by client address; more are refused, and do not count."""
    allow: tuple[str, ...] = ()
    """Networks of clients; all where it is empty."""
    deny: tuple[str, ...] = ()
    """Networks of clients that are turned away, also those in ``allow``."""
    proxy_from: tuple[str, ...] = ()
    """Networks whose connections must begin with PROXY protocol, and whose word is taken."""

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            lambda: refused(check_name, self.name),
            self._listens,
            self._tls_or_not,
            self._names_need_tls,
            self._server_names,
            lambda: self._networks("allow"),
            lambda: self._networks("deny"),
            lambda: self._networks("proxy_from"),
            self._origins_once,
        )

    def _listens(self) -> Mistakes:
        listens: list[Listen] = []
        for at, text in enumerate(self.listen):
            try:
                new = Listen.parse(text)
            except AddressError as error:
                yield SettingsError(str(error), "listen", at)
                continue
            if new in listens:
                yield SettingsError(
                    f"service {self.name} listens on {new} twice: leave one out", "listen", at
                )
            elif other := next(filter(new.overlaps, listens), None):
                yield SettingsError(
                    f"service {self.name} listens on {other} and {new}, "
                    "which have addresses in common: leave one out",
                    *("listen", at),
                )
            listens.append(new)

    def _tls_or_not(self) -> Mistakes:
        if (self.protocol == "tls") != (self.tls is not None):
            yield SettingsError(
                f"service {self.name} has protocol = {self.protocol!r}: "
                + ("add [service.tls] with certificates" if self.tls is None else "write 'tls'"),
                "protocol" if self.tls is None else "tls",
            )

    def _names_need_tls(self) -> Mistakes:
        if self.server_names and self.tls is None:
            yield SettingsError(
                f"service {self.name} has server_names, which only TLS shows: "
                "leave them out, or have TLS end here by protocol = 'tls'",
                "server_names",
            )

    def _server_names(self) -> Mistakes:
        for at, name in enumerate(self.server_names):
            yield from refused(check_server_name, name, "server_names", at)

    def _networks(self, key: str) -> Mistakes:
        for at, text in enumerate(getattr(self, key)):
            yield from refused_at((key, at), network, text)

    def _origins_once(self) -> Mistakes:
        names: set[tuple[str, int | None]] = set()
        for at, origin in enumerate(self.origin):
            for address in origin.addresses:
                if (address, origin.port) in names:
                    port = f":{origin.port}" if origin.port else ""
                    yield SettingsError(
                        f"service {self.name} has origin {address}{port} twice: leave one out",
                        *("origin", at),
                    )
                names.add((address, origin.port))

    @property
    def addresses(self) -> list[Listen]:
        """Where it listens."""
        return [Listen.parse(text) for text in self.listen]

    def has_toa(self, origin: Origin) -> bool:
        """Whether connections to this origin of its are to carry the option."""
        return origin.proxy is None if self.toa and origin.toa is None else bool(origin.toa)

    @property
    def files(self) -> list[str]:
        """Every file that it names."""
        tls = self.tls
        found = [file for each in (tls.certificates if tls else []) for file in _files(each)]
        found += [tls.client_ca] if tls and tls.client_ca else []
        for origin in self.origin:
            if (verified := origin.verified) is not None:
                named = (verified.ca, verified.certificate, verified.key)
                found += [file for file in named if file]
        return found


def _files(certificate: Certificate) -> list[str]:
    return [certificate.certificate, *([certificate.key] if certificate.key else [])]
