# SPDX-License-Identifier: Apache-2.0
"""Server-sent events, as a response: what is due is sent, and a comment where nothing is.

What waits for a slow reader is what its source keeps for it, which is bounded: the next piece is
taken when the one before has left for the kernel.

Source: HTML, Server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_COMMENT_SECONDS = 15.0
_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


class Source(Protocol):
    """Where events come from, for one reader."""

    ended: bool
    pause: float
    """Seconds after something was sent in which nothing is; what is due then goes together."""

    @property
    def woken(self) -> asyncio.Event:
        """Set where something may be due, or it has ended."""

    async def take(self) -> bytes:
        """What is due, which then is so no more."""

    def close(self) -> None:
        """The reader has gone."""


def event(kind: str, data: bytes, id_: str = "") -> bytes:
    """One event; its data is JSON, which has no line breaks."""
    named = f"id: {id_}\n" if id_ else ""
    return f"event: {kind}\n{named}data: ".encode() + data + b"\n\n"


class EventStream(Response):
    """What a source has, until it ends or the reader goes."""

    media_type = "text/event-stream"

    def __init__(self, source: Source) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["Content-Length"]
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        source = self._source
        if scope["method"] == "HEAD":
            source.close()
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        gone = asyncio.create_task(self._until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # Something at once, so that the reader knows that it is heard.
            data = b": hello\n\n"
            while not source.ended:
                if data:
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    if source.pause:
                        await asyncio.sleep(source.pause)
                source.woken.clear()
                data = await source.take()
                if not data and not source.ended:
                    data = await self._wait()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            source.close()

    async def _wait(self) -> bytes:
        try:
            async with asyncio.timeout(_COMMENT_SECONDS):
                await self._source.woken.wait()
        except TimeoutError:
            return b":\n\n"
        return b""

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._source.ended = True
        self._source.woken.set()
