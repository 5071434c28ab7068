# SPDX-License-Identifier: Apache-2.0
"""Steps of the time of day that can stop all that HAProxy does by time.

What a step is taken for depends on when it comes: while HAProxy waits, it finds out; while it
works, it takes the step for time that has passed. Its timers are milliseconds in 32 bits, where
what is more than half of them ahead counts as past, and the other way round. So after a step far
enough no origin is checked and nothing is timed out, for weeks; shorter ones only end waits early.

Source: HAProxy 2.6.12, where it was tried; https://github.com/haproxy/haproxy/issues/2704, which
was mended in later versions alone.
"""

import asyncio
import time

FAR = 2.0**31 / 1000
"""Seconds that a step has at least: 24.9 days."""
_LOOK = 1.0


async def far_step() -> float:
    """Wait until the time of day is set forward by `FAR` or more at once; answer the seconds."""
    before = _ahead()
    while True:
        await asyncio.sleep(_LOOK)
        now = _ahead()
        if now - before >= FAR:
            return now - before
        before = now


def _ahead() -> float:
    """Of the clock that nobody sets."""
    return time.time() - time.monotonic()
