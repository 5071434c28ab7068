# SPDX-License-Identifier: Apache-2.0
"""How much passes by the second, from what was counted; kept for hours while nobody hears it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from cloud_toa.cluster.model.protocol import MOST_SERVICES, Counts, Sample

EVERY = 10.0
"""Seconds between two."""
_MOST = 1440
"""Four hours."""
_PART = 30


@dataclass(frozen=True)
class Reading:
    """What was counted up to a moment, since the node's process started."""

    time: float
    """The node's clock."""
    at: float
    """Seconds of a clock that nobody sets."""
    services: Mapping[str, Counts]
    to_origins: int
    """Connections to origins."""
    with_toa: int | None
    """Those that carried the option; None where that was never known."""


def between(before: Reading, after: Reading) -> Sample:
    """The rates from one reading to the next; counts that began anew count from zero."""
    seconds = max(after.at - before.at, 0.001)
    nothing = Counts()
    connections: dict[str, float] = {}
    transferred: dict[str, float] = {}
    for name, now in after.services.items():
        was = before.services.get(name, nothing)
        connections[name] = _gain(now.connections, was.connections) / seconds
        transferred[name] = (
            _gain(now.bytes_from_clients, was.bytes_from_clients)
            + _gain(now.bytes_to_clients, was.bytes_to_clients)
        ) / seconds
    together = sum(connections.values()), sum(transferred.values())
    if len(connections) > MOST_SERVICES:  # the node as a whole matters most
        connections, transferred = {}, {}
    connections[""], transferred[""] = together
    made = _gain(after.to_origins, before.to_origins)
    # What was carried before anybody could ask is not of this time.
    carried = 0 if before.with_toa is None else _gain(after.with_toa or 0, before.with_toa)
    return Sample(
        time=after.time,
        connections=connections,
        bytes=transferred,
        with_toa=carried / seconds,
        # They are not counted in the same moment.
        without_toa=max(0, made - carried) / seconds,
    )


def _gain(now: int, was: int) -> int:
    return now - was if now >= was else now


class Samples:
    """Those that wait to be sent; the oldest are let go of first."""

    def __init__(self) -> None:
        self.waiting: deque[Sample] = deque(maxlen=_MOST)

    def add(self, sample: Sample) -> None:
        """One more."""
        self.waiting.append(sample)

    def take(self) -> list[Sample]:
        """The oldest, up to 30."""
        return [self.waiting.popleft() for _ in range(min(_PART, len(self.waiting)))]

    def give_back(self, part: list[Sample]) -> None:
        """They were not sent."""
        room = _MOST - len(self.waiting)
        self.waiting.extendleft(reversed(part[max(0, len(part) - room) :]))

    def drop(self, part: list[Sample]) -> None:
        """Nobody wants them: a chart has a gap."""
