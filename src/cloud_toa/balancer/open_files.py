# SPDX-License-Identifier: Apache-2.0
"""How many connections HAProxy may have by the limit of open files, which it inherits.

A connection has two, to the client and to the origin; every port that is listened on has
one, and so has the check of every origin, by each IP version. HAProxy refuses to start with
more connections than that leaves room for.

Source: HAProxy 2.6, configuration manual, ``maxconn`` and ``strict-limits``; prlimit(2).
"""

import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cloud_toa.balancer.allowed import is_ip
from cloud_toa.balancer.render import frontends
from cloud_toa.balancer.settings import Service
from cloud_toa.errors import ToaError

_MOST = Path("/proc/sys/fs/nr_open")
_OF_ITS_OWN = 1000
"""Threads, sockets that take commands, pipes; with room for more."""
_ENOUGH = 100_000
"""Connections, where nobody has said how many."""
_REMEDY = "raise LimitNOFILE in the unit (ulimit -Hn)"


def most() -> int:
    """Open files that this process may have, after its limit was raised as far as may be."""
    with suppress(ValueError, OSError):  # not allowed: what there is must do
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed(),) * 2)
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def allowed() -> int:
    """Open files that any process may have at most, by the kernel."""
    return int(_MOST.read_text())


def of(process: int) -> int:
    """Those of another process, as far as it may raise its limit itself."""
    return resource.prlimit(process, resource.RLIMIT_NOFILE)[1]


def connections(asked: int | None, files: int, services: tuple[Service, ...]) -> int:
    """As many as are ``asked`` for; else as many as there is room for, 100,000 at most.

    Raises:
        ToaError: so many open files are not enough.
    """
    beside = _OF_ITS_OWN + _ports(services) + _checks(services)
    room = (files - beside) // 2
    if room < 1:
        raise ToaError(
            f"the limit of open files is {files}, and HAProxy needs {beside} beside connections: "
            f"{_REMEDY}, or listen on fewer ports"
        )
    if asked is None:
        return min(room, _ENOUGH)
    if asked > room:
        raise ToaError(
            f"haproxy.max_connections {asked} is more than the limit of open files, {files}, "
            f"allows: {room}: lower it, or {_REMEDY}"
        )
    return asked


def warnings(asked: int | None, files: int, services: tuple[Service, ...]) -> Iterator[str]:
    """A line for each number that is less than somebody may think; see `connections`."""
    most = connections(asked, files, services)
    if asked is None and most < _ENOUGH:
        yield (
            f"no more than {most} connections at a time, as the limit of open files is {files}: "
            f"{_REMEDY}, or write haproxy.max_connections = {most}"
        )
    for service in services:
        if service.max_connections is not None and service.max_connections > most:
            yield (
                f"service {service.name} never has its max_connections {service.max_connections}: "
                f"all services together have {most}"
                + (" (haproxy.max_connections)" if asked is not None else "")
            )


def _ports(services: tuple[Service, ...]) -> int:
    """That are listened on; services that share them have them once."""
    return sum(
        listen.last - listen.first + 1
        for members in frontends(services)
        for listen in members[0].addresses
    )


def _checks(services: tuple[Service, ...]) -> int:
    return sum(
        1 if len(origin.addresses) == 1 and is_ip(origin.addresses[0]) else 2  # by either version
        for service in services
        if service.check.enabled
        for origin in service.origin
    )
