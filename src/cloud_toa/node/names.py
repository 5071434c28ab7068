# SPDX-License-Identifier: Apache-2.0
"""Where origins' host names lead, looked up again and again as this host does it.

Kept is one address of each IP version. What was found last stays when a lookup fails: an
origin is not lost for a name server's sake. A name with several addresses of a version keeps
the one it has for as long as that is among them. A second version counts once this host has a
route to it, as many names lead to IPv6 also where there is none; and until it was missing
three times in a row, as a name server that does not answer looks the same to who asks
for both, and each change takes a reload of the balancer.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from cloud_toa.balancer.allowed import is_ip
from cloud_toa.balancer.settings import Service
from cloud_toa.option import IPAddress

_log = logging.getLogger(__name__)
_PATIENCE = 5.0
_TIMES = 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def names(services: Iterable[Service]) -> list[str]:
    """Every host name that these have as an origin."""
    addresses = (
        address for service in services for origin in service.origin for address in origin.addresses
    )
    return [name for name in dict.fromkeys(addresses) if not is_ip(name)]


class Names:
    """What is known of names."""

    def __init__(self) -> None:
        self.addresses: dict[str, tuple[IPAddress, ...]] = {}
        """Of each name one of an IP version, IPv4 first."""
        self._unknown: set[str] = set()
        self._missing: dict[str, int] = {}

    async def look_up(self, asked: Iterable[str]) -> None:
        """Ask for all of them, at the same time."""
        asked = list(asked)
        found = await asyncio.gather(*map(self._one, asked))
        self.addresses = {name: each for name, each in zip(asked, found, strict=True) if each}

    async def _one(self, name: str) -> tuple[IPAddress, ...]:
        before = self.addresses.get(name, ())
        try:
            async with asyncio.timeout(_PATIENCE):
                answers = await _ask(name)
        except (OSError, TimeoutError) as error:
            if name not in self._unknown:
                _log.warning(
                    "%s is not found (%s): %s",
                    name, error or "too late",
                    f"{_and(before)} stays" if before else "no connections",
                )  # fmt: skip
            self._unknown.add(name)
            return before
        self._unknown.discard(name)
        found = _chosen(answers, before)
        missing = self._missing.pop(name, 0) + 1
        if set(found) < set(before) and missing < _TIMES:
            self._missing[name] = missing
            return before
        if before and found != before:
            _log.info("%s is now %s, was %s", name, _and(found), _and(before))
        return found


async def _ask(name: str) -> list[IPAddress]:
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    # A scope is for this host alone, and no origin's.
    return [ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]


def _chosen(answers: list[IPAddress], before: tuple[IPAddress, ...]) -> tuple[IPAddress, ...]:
    """One of each IP version, if there is a way; the resolver has those with one in front."""
    found = []
    for version in (4, 6):
        those = [each for each in answers if each.version == version]
        found += [each for each in before if each in those] or those[:1]
    versions = {each.version for each in before}
    reached = [each for each in found if each.version in versions or _has_way(each)]
    return tuple(reached or answers[:1])


def _has_way(address: IPAddress) -> bool:
    try:
        with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM) as sock:
            sock.connect((str(address), 9))  # of UDP: it only looks for a route
    except OSError:
        return False
    return True


def _and(addresses: Iterable[IPAddress]) -> str:
    return " and ".join(map(str, addresses))
