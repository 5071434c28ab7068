# SPDX-License-Identifier: Apache-2.0
"""The run log on its way to the cluster: as many lines as fit wait, and who is lost is counted.

Nothing that sends lines may log a line about it.
"""

import asyncio
import logging
import threading
import time
from collections import deque

from cloud_toa.cluster.model.protocol import Line
from cloud_toa.node import runlog

_MOST = 5000
_PART = 500
_LONGEST = 2000
"""Characters of a line."""


class Lines(logging.Handler):
    """Takes the package's log beside standard error."""

    def __init__(self) -> None:
        super().__init__()
        self.some = asyncio.Event()
        """Whether there are any."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: deque[Line] = deque()
        self._lost = self._noted = 0
        self._format = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line wait."""
        line = Line(
            time=record.created,
            level=runlog.level(record),
            tag=runlog.tag(record),
            text=self._format.format(record).replace("\n", " | ")[:_LONGEST],
        )
        if threading.get_ident() == self._thread:
            self._add(line)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._add, line)

    def take(self) -> list[Line]:
        """The oldest, up to 500; the first says how many were lost before it."""
        part = [self._waiting.popleft() for _ in range(min(_PART - 1, len(self._waiting)))]
        self._noted, self._lost = self._lost, 0
        if self._noted:
            text = f"{self._noted} lines of this log are not here: the node could not send them"
            at = part[0].time if part else time.time()
            part.insert(0, Line(time=at, level="warning", tag="TOA", text=text))
        if not self._waiting:
            self.some.clear()
        return part

    def give_back(self, part: list[Line]) -> None:
        """They were not sent."""
        self._lost += self._noted
        self._waiting.extendleft(reversed(part[1:] if self._noted else part))
        self._noted = 0
        self._bound()

    def drop(self, part: list[Line]) -> None:
        """Nobody wants them."""
        self._lost += self._noted + len(part) - bool(self._noted)
        self._noted = 0

    def _add(self, line: Line) -> None:
        self._waiting.append(line)
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > _MOST:
            self._waiting.popleft()
            self._lost += 1
        self.some.set()
