# SPDX-License-Identifier: Apache-2.0
"""Where origins' host names lead, looked up again and again as this host does it.

What was found last stays when a lookup fails: an origin is not lost for a name server's
sake. A name that had several addresses keeps the one it has for as long as that is among them.
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


def names(services: Iterable[Service]) -> list[str]:
    """Every host name that these have as an origin."""
    addresses = (origin.address for service in services for origin in service.origin)
    return [name for name in dict.fromkeys(addresses) if not is_ip(name)]


class Names:
    """What is known of names."""

    def __init__(self) -> None:
        self.addresses: dict[str, IPAddress] = {}
        self._unknown: set[str] = set()

    async def look_up(self, asked: Iterable[str]) -> None:
        """Ask for all of them, at the same time."""
        asked = list(asked)
        found = await asyncio.gather(*map(self._one, asked))
        self.addresses = {
            name: address for name, address in zip(asked, found, strict=True) if address
        }

    async def _one(self, name: str) -> IPAddress | None:
        known = self.addresses.get(name)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_PATIENCE):
                answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError) as error:
            if name not in self._unknown:
                _log.warning(
                    "%s is not found (%s): %s",
                    name, error or "too late", f"{known} stays" if known else "no connections",
                )  # fmt: skip
            self._unknown.add(name)
            return known
        self._unknown.discard(name)
        # A scope is for this host alone, and no origin's.
        found = [ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
        if known in found:
            return known
        if known is not None:
            _log.info("%s is now %s, was %s", name, found[0], known)
        return found[0]
