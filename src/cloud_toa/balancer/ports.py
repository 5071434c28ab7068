# SPDX-License-Identifier: Apache-2.0
"""Whether ports are to be had on this host, and who has them."""

import errno
import os
import re
import socket
import subprocess
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from cloud_toa.balancer.addresses import Listen
from cloud_toa.errors import ToaError

_USER = re.compile(r'"(?P<name>[^"]*)",pid=(?P<pid>\d+)')

_BIND = re.compile(r"(?m)^  bind (?P<place>[^\s@]+)(?: |$)")
_MAPPED = re.compile(r"^\[::ffff:([0-9.]+)\]")


def check(listens: Iterable[Listen]) -> None:
    """See that every one of these can be listened on.

    Raises:
        ToaError: one can't; says who has it, or what else is wrong.
    """
    for listen in listens:
        for port in range(listen.first, listen.last + 1):
            _try(Listen(listen.ip, port, port))


def of(configuration: str) -> Iterator[Listen]:
    """Where an HAProxy with this configuration of ours listens."""
    for found in _BIND.finditer(configuration):
        yield Listen.parse(_MAPPED.sub(r"\1", found["place"]))


def _try(place: Listen, *, again: bool = True) -> None:
    family = socket.AF_INET6 if place.ip.version == 6 else socket.AF_INET
    try:
        with socket.socket(family) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((str(place.ip), place.first))
            sock.listen(1)
    except OSError as error:
        holder = _holder(place) if error.errno == errno.EADDRINUSE else ""
        if error.errno == errno.EADDRINUSE and again and not holder:
            # Who had it has just gone, such as a worker of HAProxy that a reload has ended.
            _try(place, again=False)
            return
        raise ToaError(_why(place, error, holder)) from None


def _why(place: Listen, error: OSError, holder: str) -> str:
    if error.errno == errno.EADDRINUSE:
        # In a unit's sandbox, ss does not see who it is.
        shown = "" if holder else f" (ss -ltnp 'sport = :{place.first}' as root shows by whom)"
        return f"{place} is in use{holder}: stop that, or listen elsewhere{shown}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{place.ip} is no address of this host: ip address shows those it has"
    return f"{place}: {os.strerror(error.errno or 0)}"


def _holder(place: Listen) -> str:
    """By whom, as far as `ss` can tell."""
    try:
        shown = subprocess.run(
            ["ss", "-Hltnp", f"sport = :{place.first}"], capture_output=True, text=True, check=False
        ).stdout
    except FileNotFoundError:
        return ""
    for line in shown.splitlines():
        local = line.split()[3].rpartition(":")[0].partition("%")[0].strip("[]")
        # A star is both families.
        held = local == "*" or Listen(ip_address(local), place.first, place.last).overlaps(place)
        if held and (found := _USER.search(line)):
            return f" by {found['name']} (process {found['pid']})"
    return ""
