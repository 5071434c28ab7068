# SPDX-License-Identifier: Apache-2.0
"""What the access log says of TOA, where the sender knows better than the settings. Pure.

HAProxy's line says what the settings do (`log_line`), which nearly always is what happened.
Of other connections the sender tells, before HAProxy logs them. So lines are looked into only
while something told waits for its line; else they pass as they are, however many.

A line is found by the client's and the origin's addresses and ports: no two connections have
them at one time, unless a client uses one port for two services with a common origin.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_PATIENCE = 600.0
"""Seconds that what was told waits: HAProxy logs a connection when both sides have ended, and
the client's may go on for a while."""
_MOST = 20_000
"""Things told that wait; the oldest give way."""
_LINE = re.compile(
    rb'("client":"[^"]*","client_port":"[^"]*","origin_address":"[^"]*","origin_port":"[^"]*",)'
    rb'("toa":"[^"]*","toa_why_not":"[^"]*")'
)
_SAID = re.compile(rb'"toa":"[a-z][^"]*","toa_why_not":"-"')
_UNKNOWN = rb'"toa":"unknown","toa_why_not":"not_told"'


class Correction(NamedTuple):
    """One connection, and what its line is to say."""

    client: str
    client_port: int
    origin: str
    origin_port: int
    where: str
    why_not: str


class Corrections:
    """Those that wait for their lines."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[float, bytes]] = {}
        self._unsure = False

    def apply(
        self, lines: bytes, told: Iterable[Correction], now: float, *, lost: bool = False
    ) -> bytes:
        """The same lines, with what is known of them.

        Args:
            lines: whole ones.
            told: what was told since the last call, also of other lines; not before ``lines``
                were there.
            now: in seconds.
            lost: whether more was to be told, and nobody knows what. Then nothing is claimed
                in these lines and in the next ones.
        """
        for each in told:
            key = _key(each)
            self._waiting.pop(key, None)
            text = f'"toa":"{each.where}","toa_why_not":"{each.why_not}"'
            self._waiting[key] = now + _PATIENCE, text.encode()
        if lost or self._unsure:
            lines = _SAID.sub(_UNKNOWN, lines)
        self._unsure = lost
        self._forget(now)
        return self._put_in(lines) if self._waiting else lines

    def _put_in(self, lines: bytes) -> bytes:
        # One call for all lines, and no step of Python's for each.
        parts = _LINE.split(lines)
        keys = parts[1::3]
        if self._waiting.keys().isdisjoint(keys):
            return lines
        for number, key in enumerate(keys):
            if key in self._waiting:
                parts[3 * number + 2] = self._waiting.pop(key)[1]
        return b"".join(parts)

    def _forget(self, now: float) -> None:
        """What is too old, which comes first."""
        beyond = len(self._waiting) - _MOST
        old = []
        for number, (key, (until, _)) in enumerate(self._waiting.items()):
            if number >= beyond and until > now:
                break
            old.append(key)
        for key in old:
            del self._waiting[key]


def _key(each: Correction) -> bytes:
    return (
        f'"client":"{each.client}","client_port":"{each.client_port}",'
        f'"origin_address":"{each.origin}","origin_port":"{each.origin_port}",'
    ).encode()
