# SPDX-License-Identifier: Apache-2.0
"""Where a server listens, and by which certificate it is known."""

import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cloud_toa.errors import ToaError

BACKLOG = 2048
"""A cluster's nodes come back all at once."""


@dataclass(frozen=True)
class Listening:
    """An address, and TLS where there are files for it."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def loopback(self) -> bool:
        """Whether nobody else's host can reach it."""
        return ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        scheme = "http" if self.certificate is None else "https"
        names = names_in(self.certificate) if self.certificate else ()
        plain = [name for name in names if not name.startswith("*")]
        host = plain[0] if plain else self.host
        if not plain and ip_address(self.host).is_unspecified:
            host = socket.getfqdn()
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def bind(self) -> socket.socket:
        """The listening socket.

        Raises:
            ToaError: the address can't be used.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        sock = socket.socket(family)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                both = ip_address(self.host).is_unspecified
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
            sock.bind((self.host, self.port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise ToaError(f"--listen {self.host} port {self.port}: {error.strerror}") from None
        return sock

    def context(self) -> ssl.SSLContext | None:
        """What TLS is spoken by; None without.

        Raises:
            ToaError: the files can't be used.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Read the files; once more when they have been renewed.

        Raises:
            ToaError: they can't be used.
        """
        assert self.certificate is not None
        for path in filter(None, (self.certificate, self.key)):
            try:
                path.read_bytes()
            except OSError as error:
                raise ToaError(f"{path} can't be read: {error.strerror}") from None
        try:
            # A passphrase can't be asked for: an empty one is refused by OpenSSL.
            context.load_cert_chain(self.certificate, self.key, lambda: b"")
        except ssl.SSLError as error:
            raise ToaError(
                f"{self.certificate} and its key {self.key or 'in it'} can't be used: "
                f"{error.reason or error}"
            ) from None


def parse(text: str) -> tuple[str, int]:
    """Read ``127.0.0.1:7788`` or ``[::]:7788``.

    Raises:
        ToaError: it is something else.
    """
    host, _, port = text.rpartition(":")
    if port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536:
        with suppress(ValueError):
            return str(ip_address(host.strip("[]"))), int(port)
    raise ToaError(f"--listen {text!r} is no address: write 127.0.0.1:7788 or [::]:7788")


def names_in(certificate: Path) -> tuple[str, ...]:
    """The host names that a certificate is for, in small letters."""
    # Here, as a server without TLS shall not wait for it.
    from cryptography import x509  # noqa: PLC0415

    with suppress(OSError, ValueError, x509.ExtensionNotFound):
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(name.lower() for name in names.value.get_values_for_type(x509.DNSName))
    return ()
