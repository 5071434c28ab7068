# SPDX-License-Identifier: Apache-2.0
"""Measure modes in turn, and say what the rounds have in common.

A machine's speed drifts: neighbours, heat, its own housekeeping. So modes are compared
within a round only, seconds apart, in an order that changes from round to round; what is
reported is the median of those ratios and the quartiles around it.
"""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modes import Mode
from testbed import Testbed

from cloud_toa.errors import ToaError

Sample = dict[str, float]
"""What one measurement of one mode gave, by the quantity's name."""

Rounds = list[dict[str, Sample]]
"""Per round, a sample of each mode by the mode's name."""


@dataclass(frozen=True)
class Spread:
    """A median with what lies around it."""

    median: float
    low: float
    high: float

    @classmethod
    def extremes(cls, values: Sequence[float]) -> "Spread":
        """Around the median, all values."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def quartiles(cls, values: Sequence[float]) -> "Spread":
        """Around the median, the middle half of the values."""
        if len(values) < 2:
            return cls.extremes(values)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def alternate(
    testbed: Testbed,
    modes: Sequence[Mode],
    rounds: int,
    measure: Callable[[tuple[str, int]], Sample],
) -> Rounds:
    """Measure each mode once per round; a first round warms up and is not counted.

    Each mode must show the origin the right client, before and after.
    """
    for mode in modes:
        testbed.check(mode)
    measured = []
    for number in range(rounds + 1):
        turn = number % len(modes)
        samples = {}
        for mode in (*modes[turn:], *modes[:turn]):
            _progress(f"round {number} of {rounds}: {mode.name}")
            with testbed.ready(mode) as address:
                try:
                    samples[mode.name] = measure(address)
                except ToaError as error:
                    raise ToaError(f"mode {mode.name}, round {number}: {error}") from error
        if number:
            measured.append({mode.name: samples[mode.name] for mode in modes})
    _progress("")
    for mode in modes:
        testbed.check(mode)
    return measured


def values(rounds: Rounds, mode: str, quantity: str) -> list[float]:
    """A quantity of a mode, by round."""
    return [samples[mode][quantity] for samples in rounds]


def ratios(rounds: Rounds, mode: str, base: str, quantity: str) -> list[float]:
    """A quantity of a mode over that of another mode in the same round."""
    return [samples[mode][quantity] / samples[base][quantity] for samples in rounds]


def _progress(text: str) -> None:
    """Replace the line on the terminal, if there is one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
