# SPDX-License-Identifier: Apache-2.0
"""What processes take of the processor and the memory; proc(5)."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    """Of some processes together, again and again."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._at = time.monotonic()
        self._percent = 0.0

    def read(self, pids: Iterable[int]) -> tuple[float, int]:
        """Percent of one processor since the last reading, and bytes of memory.

        What several of them share is counted once (Pss).
        """
        pids = list(pids)
        ticks = {pid: used for pid in pids if (used := _used(pid)) is not None}
        now = time.monotonic()
        if now - self._at >= 1.0:
            # One that was not there before, such as an old HAProxy, may have taken days.
            # One that has taken less than before is another one by the same number.
            gained = sum(max(0, used - self._ticks.get(pid, used)) for pid, used in ticks.items())
            self._percent = round(100.0 * gained / _TICKS / (now - self._at), 1)
            self._ticks, self._at = ticks, now
        return self._percent, sum(map(_memory, pids))


def _used(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        # Behind the name, which may have spaces and parentheses: utime and stime.
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(rest[11]) + int(rest[12])
    return None


def _memory(pid: int) -> int:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
