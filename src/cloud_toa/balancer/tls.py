# SPDX-License-Identifier: Apache-2.0
"""TLS with clients and with origins, as an edge's file has it. Pure.

Source: HAProxy 2.6, configuration manual, section 5.
"""

from typing import Annotated, Literal

from msgspec import Meta

from cloud_toa.balancer.allowed import SettingsError, check_ciphers, check_host, check_path
from cloud_toa.balancer.rules import Mistakes, Rule, Ruled, refused


class Certificate(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate with its chain, and its key, as PEM files."""

    certificate: str
    key: str | None = None
    """Left out where the certificate's file has the key as well."""

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            lambda: refused(check_path, self.certificate, "certificate"),
            lambda: refused(check_path, self.key, "key"),
        )


class ServiceTls(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS with clients."""

    certificates: Annotated[tuple[Certificate, ...], Meta(min_length=1)]
    """Which one a client gets is chosen by the name that it asks for; else the first.

    One that has expired, or will in 14 days, is served, with a warning in the run log.
    """
    min_version: Literal["1.2", "1.3"] = "1.2"
    ciphers: str | None = None
    """Of TLS 1.2, as OpenSSL writes them."""
    ciphersuites: str | None = None
    """Of TLS 1.3."""
    client_ca: str | None = None
    """Clients must show a certificate by one of these authorities."""

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            lambda: refused(check_path, self.client_ca, "client_ca"),
            lambda: refused(check_ciphers, self.ciphers, "ciphers"),
            lambda: refused(check_ciphers, self.ciphersuites, "ciphersuites"),
        )


class OriginTls(Ruled, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS with an origin, whose certificate is verified unless that is switched off."""

    verify: bool = True
    ca: str | None = None
    """Authorities that are believed; this host's own where it is left out."""
    server_name: str | None = None
    """What the certificate must be for, and the origin is asked for: a host name.

    The origin's own by default.
    """
    certificate: str | None = None
    """Shown to the origin; with its key in the same file unless ``key`` names it."""
    key: str | None = None

    def rules(self) -> tuple[Rule, ...]:
        """See `Ruled`."""
        return (
            lambda: refused(check_path, self.ca, "ca"),
            lambda: refused(check_path, self.certificate, "certificate"),
            lambda: refused(check_path, self.key, "key"),
            lambda: refused(check_host, self.server_name, "server_name"),
            self._pair,
        )

    def _pair(self) -> Mistakes:
        if self.key and not self.certificate:
            yield SettingsError(
                f"key {self.key!r} is without its certificate: name both, or neither", "key"
            )
