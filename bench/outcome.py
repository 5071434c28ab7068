# SPDX-License-Identifier: Apache-2.0
"""What became of many connections, each of which was told whom its server saw."""

from typing import Any

import msgspec


class Outcome(msgspec.Struct):
    """What became of the connections. Times are time.monotonic(), in seconds."""

    right: int = 0
    without: int = 0
    """The server saw the edge: no TOA."""
    wrong: int = 0
    """The server saw anybody else."""
    failed: int = 0
    wrong_ones: list[str] = []
    failures: dict[str, int] = {}
    """How many failed, by reason."""
    marred: list[tuple[str, float, float]] = []
    """Each that ``failed`` or was ``without`` TOA, from its start to its end; the first 20,000."""
    begun: float = 0.0
    ended: float = 0.0
    p50: float = 0.0
    """Seconds from connect() to the answer."""
    p99: float = 0.0
    slowest: float = 0.0

    @property
    def total(self) -> int:
        """All connections."""
        return self.right + self.without + self.wrong + self.failed

    def counts(self) -> dict[str, Any]:
        """How many came to what, for a row of a table."""
        return {
            "connections": self.total,
            "right": self.right,
            "without": self.without,
            "wrong": self.wrong,
            "wrong_ones": self.wrong_ones,
            "failed": self.failed,
            "failures": self.failures,
        }


def sum_of(outcomes: list[Outcome]) -> Outcome:
    """What became of all connections of several clients; percentiles are the worst's."""
    total = Outcome(
        begun=min(outcome.begun for outcome in outcomes),
        ended=max(outcome.ended for outcome in outcomes),
        p50=max(outcome.p50 for outcome in outcomes),
        p99=max(outcome.p99 for outcome in outcomes),
        slowest=max(outcome.slowest for outcome in outcomes),
    )
    for outcome in outcomes:
        total.right += outcome.right
        total.without += outcome.without
        total.wrong += outcome.wrong
        total.failed += outcome.failed
        total.wrong_ones += outcome.wrong_ones
        total.marred += outcome.marred
        for reason, count in outcome.failures.items():
            total.failures[reason] = total.failures.get(reason, 0) + count
    return total
