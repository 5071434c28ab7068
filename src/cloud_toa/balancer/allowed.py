# SPDX-License-Identifier: Apache-2.0
"""What may stand in HAProxy's configuration: nothing that could end a word or a line. Pure."""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Annotated

from msgspec import Meta

from cloud_toa.errors import ToaError
from cloud_toa.networks import ANY, IPNetwork, Reader

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_RESERVED = ("cloud-toa.", "MASTER")
"""What HAProxy's own proxies, and ours in it, have names with."""
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*")
_SERVER_NAME = re.compile(rf"(\*\.)?{_HOST.pattern}")
_CIPHERS = re.compile(r"[A-Za-z0-9_:@!+=-]+")
_PATH = re.compile(r"/[^\s\x00-\x1f\x7f\"'\\#$]+")

# Without what stands last, Python takes a line feed at the end.
END = r"$(?!\n)"
# HAProxy's longest is 2,147,483,647 ms.
Duration = Annotated[
    str,
    Meta(
        pattern=rf"^([1-9][0-9]{{0,6}}ms|[1-9][0-9]{{0,5}}s|[1-9][0-9]{{0,3}}m|[1-9][0-9]?h"
        rf"|[1-4][0-9]{{2}}h|([1-9]|1[0-9]|2[0-4])d){END}",
        description='a number and its unit: "500ms", "10s", "5m", "1h" or "2d", at most "24d"',
    ),
]
"""A number and its unit: ``500ms``, ``10s``, ``5m``, ``1h``, ``2d``."""
_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class SettingsError(ToaError, ValueError):
    """A value that a service can't have; ``at`` is where, from what was to be made on."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


def check_name(name: str) -> None:
    """See that a service can be called so.

    Raises:
        SettingsError: it can't.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"service name {name!r}: write 1 to 64 letters, digits, '.', '_' or '-'", "name"
        )
    if name.startswith(_RESERVED):
        raise SettingsError(
            f"service name {name!r}: those with {' or '.join(_RESERVED)} in front are "
            "HAProxy's own, choose another",
            "name",
        )


def check_ciphers(text: str | None, key: str) -> None:
    """See that it can be a list of ciphers; whether OpenSSL knows them is for HAProxy to say.

    Raises:
        SettingsError: it can't.
    """
    if text is not None and not _CIPHERS.fullmatch(text):
        raise SettingsError(
            f"{text!r} is no list of {key}: write it as OpenSSL does, with colons between", key
        )


def check_host(name: str | None, key: str) -> None:
    """See that it is a host name, and no address.

    Raises:
        SettingsError: it isn't.
    """
    if name is not None and (is_ip(name) or not _HOST.fullmatch(name)):
        raise SettingsError(
            f"{key} {name!r} is no host name: write one that stands in the certificate", key
        )


def check_server_name(name: str, *at: str | int) -> None:
    """See that clients can ask for it.

    Raises:
        SettingsError: they can't.
    """
    if not _SERVER_NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name: write www.example.com or *.example.com", *at)


def is_ip(address: str) -> bool:
    """Whether it is an address, and not a name that has one."""
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def milliseconds(duration: str) -> int:
    """How long a `Duration` is."""
    number = duration.rstrip("dhms")
    return int(number) * _UNITS[duration.removeprefix(number)]


def network(text: str) -> IPNetwork:
    """A network of clients, as in ``allow``.

    Raises:
        SettingsError: it is none, or everybody.
    """
    return _NETWORKS.read("0.0.0.0/0" if text == ANY else text, text)


def check_path(path: str | None, *at: str) -> None:
    """See that it can stand in HAProxy's configuration.

    Raises:
        SettingsError: it can't.
    """
    if path is not None and not _PATH.fullmatch(path):
        raise SettingsError(
            f"{path!r} is no path: write it from / on, without spaces, quotes, \\, # and $", *at
        )


def check_origin(address: str | tuple[str, ...]) -> Iterator[SettingsError]:
    """Why there can't be a server, if there can't."""
    if isinstance(address, str):
        yield from _of_address(address, "address")
        return
    addresses = True
    for at, each in enumerate(address):
        if not is_ip(each):
            addresses = False
            yield SettingsError(
                f"origin address {each!r} is one of two, and no IP address: write an IPv4 and an "
                "IPv6 address; or the host name alone, which may lead to both",
                *("address", at),
            )
        else:
            yield from _of_address(each, "address", at)
    if addresses and len({ip_address(each).version for each in address}) < 2:
        yield SettingsError(
            f"origin addresses {' and '.join(address)} are of one IP version: write an IPv4 and "
            "an IPv6 address, and two servers as two origins",
            "address",
        )


def _of_address(address: str, *at: str | int) -> Iterator[SettingsError]:
    try:
        ip = ip_address(address)
    except ValueError:
        if not _HOST.fullmatch(address) or address.replace(".", "").isdigit():
            yield SettingsError(
                f"origin address {address!r} is neither an IP address nor a host name: "
                "write 192.0.2.7, 2001:db8::7 or app.example, and the port as port = 80",
                *at,
            )
        return
    if "%" in address:
        yield SettingsError(
            f"origin address {address!r} names an interface: use an address that needs none",
            *at,
        )
    elif isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        yield SettingsError(f"origin address {address!r} is IPv4: write {ip.ipv4_mapped}", *at)
    elif ip.is_unspecified or ip.is_multicast:
        yield SettingsError(
            f"origin address {address!r} is nobody's: write the address of a server", *at
        )


_NETWORKS = Reader(
    SettingsError,
    what="services",
    everyone="is everybody",
    forms="write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32",
    meant="leave it out, or write smaller networks",
)
