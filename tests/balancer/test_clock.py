# SPDX-License-Identifier: Apache-2.0
"""clock.py: which steps of the time of day HAProxy does not bear."""

import asyncio

import pytest

from cloud_toa.balancer import clock
from cloud_toa.balancer.clock import FAR, far_step

DAY = 86400.0


def test_far_forward_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither back, nor by less, nor by less that adds up."""
    steps = [0.0, 0.001, -60 * DAY, FAR - 1, 20 * DAY, 20 * DAY, 56 * 365 * DAY]
    shown = iter([sum(steps[: number + 1]) for number in range(len(steps))])
    monkeypatch.setattr(clock, "_ahead", lambda: next(shown))
    monkeypatch.setattr(clock, "_LOOK", 0.0)
    assert asyncio.run(far_step()) == pytest.approx(56 * 365 * DAY)
    assert not list(shown)


def test_half_of_what_32_bits_hold() -> None:
    """Of milliseconds: from there on what is ahead counts as past."""
    assert (int(FAR * 1000) & 0xFFFFFFFF) >> 31 == 1
    assert (int(FAR * 1000) - 1) >> 31 == 0
