# SPDX-License-Identifier: Apache-2.0
"""A request comes whole within a minute, or its connection ends.

uvicorn bounds how long a connection may be idle after an answer, and not how long a request may
take: who sends a byte now and then would have a connection for ever, and many of them all there
are. What is measured is from a request's first byte, or from the connection's begin, to the body's
last. How long an answer takes is no matter: event streams have no end.
"""

import asyncio
from typing import Any

SECONDS = 60.0


class _Patient(asyncio.Protocol):
    transport: asyncio.Transport
    cycle: Any
    """The last request of which all headers are there; None before the first."""
    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop()

    def _look(self) -> None:
        last = self.cycle
        # What comes after an answer is the next request, or what was not wanted of the last.
        if last is None or last.more_body or last.response_complete:
            if self._end is None:
                loop = asyncio.get_running_loop()
                self._end = loop.call_later(SECONDS, self.transport.abort)
        else:
            self._stop()

    def _stop(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


def patient(protocol: type[asyncio.Protocol]) -> type[asyncio.Protocol]:
    """One of uvicorn's protocols for HTTP/1.1, with patience that has an end."""
    return type("Patient", (_Patient, protocol), {})
