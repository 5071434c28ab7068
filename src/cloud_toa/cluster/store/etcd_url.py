# SPDX-License-Identifier: Apache-2.0
"""Where an etcd is and how to be let in, read from its URL.

``etcd://user@h1,h2:2379,[2001:db8::1]?ca=FILE&cert=FILE&key=FILE&password_file=FILE``
"""

import ipaddress
import re
import ssl
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from cloud_toa.errors import ToaError

_PORT = 2379
# Not urlsplit: several hosts are not what it expects, and newer ones refuse brackets behind others.
_URL = re.compile(r"etcd://([^/?#]*)([^?#]*)\??([^#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9a-zA-Z._-]+)(?::([0-9]{1,5}))?")
_FILES = ("ca", "cert", "key", "password_file")


class Address(Struct, frozen=True, kw_only=True):
    """What a URL says."""

    members: list[str]
    """Each as a URL of its own, without a path."""
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    """Whoever signed the members' certificates; None: they are asked without TLS."""
    cert: Path | None = None
    """Ours, where they want one."""
    key: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """What they are asked with; None where it is without TLS.

        Raises:
            ToaError: a file can't be used.
        """
        if self.ca is None:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self.ca, error) from None
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                raise _unusable(self.key or self.cert, error) from None
        return context

    def password(self) -> str:
        """The user's, read anew, so that it can be changed.

        Raises:
            ToaError: the file can't be read.
        """
        assert self.password_file is not None
        try:
            return self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise _unusable(self.password_file, error) from None


def read(url: str) -> Address:
    """What a URL ``etcd://…`` says.

    Raises:
        ToaError: it is none, or would show a password to others. The message does not.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ToaError("the store's URL does not begin with etcd://")
    members, path, query, fragment = found.groups()
    login, _, hosts = members.rpartition("@")
    user, colon, _ = login.partition(":")
    if colon:
        raise ToaError(
            "a password in the store's URL is seen by everybody on this host: "
            "write it into a file of mode 0600, and name that with password_file="
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _FILES or not value.startswith("/"):
            raise ToaError(
                f"{name}={value} in the store's URL: there are {', '.join(_FILES)}, "
                "each with the whole path of a file"
            )
    if path.strip("/") or fragment:
        raise ToaError(
            f"{path}{fragment} in the store's URL: behind the members come only ?options"
        )
    files = {name: Path(value) for name, value in options.items()}
    if bool(user) != ("password_file" in files):
        raise ToaError("the store's URL has either both user@ and password_file=, or none of them")
    if "cert" in files and "ca" not in files:
        raise ToaError("the store's URL has cert= without ca=: add who signed the members'")
    if "key" in files and "cert" not in files:
        raise ToaError("the store's URL has key= without cert=: add the certificate")
    scheme = "https" if "ca" in files else "http"
    urls = [_member(host, scheme) for host in hosts.split(",")]
    if user and scheme == "http" and not all(_is_here(url) for url in urls):
        raise ToaError(
            "the store's password would cross the network for everybody to read: add ca= to the URL"
        )
    return Address(members=urls, user=unquote(user), **files)


def _member(host: str, scheme: str) -> str:
    found = _HOST.fullmatch(host)
    port = int(found[2] or _PORT) if found else 0
    if not found or not 0 < port < 65536:
        raise ToaError(f"{host!r} is no member of etcd: write it like h1, h1:2379 or [::1]:2379")
    return f"{scheme}://{found[1]}:{port}"


def _is_here(member: str) -> bool:
    host = member.split("://")[1].rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unusable(path: Path, error: Exception) -> ToaError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ToaError(f"{path}, which the store's URL names, can't be used: {reason}")
