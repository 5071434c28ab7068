# SPDX-License-Identifier: Apache-2.0
"""Load while something is killed or exchanged, and what that costs the connections.

Visitors come all the time (visitors.py). Others are there before each fault, silent, and say
who they are behind it: so it has no connection's end either. Some faults have a time in which
connections can't be served as usual, such as between detach and attach: what becomes of those
that are under way then is counted apart.
"""

import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

import paths
import visitors
from outcome import Outcome, sum_of

from cloud_toa.demo.lab import CLIENTS, EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.errors import ToaError

Span = tuple[float, float]
"""From when to when, as time.monotonic() has it."""

_SILENT = 3
"""Connections of each IP version that are silent through a fault."""
_PAUSE = 0.02
_FEWEST = 50


@dataclass(frozen=True)
class Toll:
    """What became of all connections; of those under way in a fault's own time, apart."""

    connections: int
    failed: int
    wrong: int
    without: int
    seconds_without: float
    """In which a connection was under way that stayed without TOA."""
    slowest: float
    """Seconds of the slowest visitor that was answered."""
    meanwhile_seconds: float
    meanwhile_failed: int
    meanwhile_without: int
    failures: dict[str, int]
    """All that failed, by reason."""
    wrong_ones: list[str]

    @property
    def is_nothing(self) -> bool:
        """Whether no connection had a disadvantage, but for the fault's own time."""
        return not (self.failed or self.wrong or self.without)


class Load:
    """Visitors at work, half by IPv4 and half by IPv6.

    Args:
        lab: where.
        at_once: connections at a time.
        seed: of the clients' addresses.
    """

    def __init__(self, lab: Lab, at_once: int, seed: int) -> None:
        self._lab = lab
        self._chance = random.Random(seed)
        self._silent: list[tuple[float, socket.socket]] = []
        self._held = Outcome()
        self._visitors = [
            visitors.Visitors(
                lab.client,
                visitors.Visit(
                    [visitors.Way(CLIENTS[version], EDGE[version], paths.PORT)],
                    [*EDGE_TO_ORIGIN.values()],
                    at_once=at_once // 2,
                    seed=2 * seed + half,
                    pause=_PAUSE,
                ),
            )
            for half, version in enumerate((4, 6))
        ]
        for each in self._visitors:
            each.begun()

    def hold(self) -> None:
        """Have connections that are silent until `release`."""
        for version in (4, 6) * _SILENT:
            network, begun = ip_network(CLIENTS[version]), time.monotonic()
            address = network[self._chance.randrange(1, min(network.num_addresses, 1 << 32) - 1)]
            try:
                sock = self._lab.connect((str(address), 0), (EDGE[version], paths.PORT))
            except OSError as error:
                self._fail(begun, error)
            else:
                self._silent.append((begun, sock))

    def release(self) -> None:
        """They say who they are, and hear whether the server saw that."""
        for begun, sock in self._silent:
            address, port = sock.getsockname()[:2]
            try:
                sock.sendall(f"{address} {port}\n".encode())
                words = sock.recv(128).decode().split()
            except OSError as error:
                self._fail(begun, error)
                continue
            finally:
                sock.close()
            if words == ["right"]:
                self._held.right += 1
            elif not words:
                self._fail(begun, OSError(0, "closed without an answer"))
            elif words[:1] == ["saw"] and words[1] in EDGE_TO_ORIGIN.values():
                self._held.without += 1
                self._held.marred.append(("without", begun, time.monotonic()))
            else:
                self._held.wrong += 1
                self._held.wrong_ones.append(f"{address} {port}: {' '.join(words)}")
        self._silent.clear()

    def end(self, spans: list[Span]) -> Toll:
        """Stop; ``spans`` are the faults' own times.

        Raises:
            ToaError: there were too few connections to say anything, or so many marred ones
                that not all of them are told of.
        """
        for each in self._visitors:
            each.stop()
        outcomes = [each.outcome() for each in self._visitors]
        found = sum_of([*outcomes, self._held])
        if found.right < _FEWEST:
            raise ToaError(f"{found.right} connections were served: choose a longer --calm")
        if len(found.marred) < found.failed + found.without:
            raise ToaError(f"{found.failed} connections failed: more than are told of")
        counts: Counter[tuple[str, bool]] = Counter()
        without = []
        for how, begun, ended in found.marred:
            meanwhile = any(begun < last and ended > first for first, last in spans)
            counts[how, meanwhile] += 1
            if how == "without" and not meanwhile:
                without.append((begun, ended))
        return Toll(
            connections=found.total,
            failed=counts["failed", False],
            wrong=found.wrong,
            without=counts["without", False],
            seconds_without=sum(ended - begun for begun, ended in _joined(without)),
            slowest=max(each.slowest for each in outcomes),
            meanwhile_seconds=sum(last - first for first, last in spans),
            meanwhile_failed=counts["failed", True],
            meanwhile_without=counts["without", True],
            failures=found.failures,
            wrong_ones=found.wrong_ones,
        )

    def _fail(self, begun: float, error: OSError) -> None:
        reason = error.strerror or str(error)
        self._held.failed += 1
        self._held.failures[reason] = self._held.failures.get(reason, 0) + 1
        self._held.marred.append(("failed", begun, time.monotonic()))


def _joined(spans: list[Span]) -> Iterator[Span]:
    """The same time in spans that do not overlap."""
    until = 0.0
    for begun, ended in sorted(spans):
        if ended > until:
            yield max(begun, until), ended
            until = ended
