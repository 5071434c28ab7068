# SPDX-License-Identifier: Apache-2.0
"""Pages that change by themselves: which part is to be asked for again, and lines of logs as HTML.

What has changed comes from the streams of the API; here a browser is told once a second at most
that there is something, however many nodes there are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from starlette.responses import Response
from starlette.routing import BaseRoute

from cloud_toa.cluster.api import access
from cloud_toa.cluster.api.console_streams import ConsoleStream
from cloud_toa.cluster.api.streams import EventStream
from cloud_toa.cluster.console import log_pages
from cloud_toa.cluster.console.page import Page, route
from cloud_toa.cluster.model import settings
from cloud_toa.cluster.model.logs import NodeLine

_NODES = ("nodes/", settings.KEY)


class PageStream:
    """One browser's; a `streams.Source`."""

    pause = 1.0

    def __init__(
        self,
        inner: ConsoleStream,
        good: Callable[[], Awaitable[bool]],
        written: Callable[[Sequence[NodeLine], int], Awaitable[str]] | None,
    ) -> None:
        self.woken: asyncio.Event = inner.woken
        self._inner = inner
        self._good = good
        self._written = written

    @property
    def ended(self) -> bool:
        """See `streams.Source`."""
        return self._inner.ended

    @ended.setter
    def ended(self, ended: bool) -> None:
        self._inner.ended = ended

    async def take(self) -> bytes:
        """See `streams.Source`."""
        inner = self._inner
        if inner.doubtful:
            inner.doubtful = False
            if not await self._good():
                self.ended = True
                return b""
        keys, inner.keys = inner.keys, {}
        if self._written is None:
            return _event("nodes", "") if any(key.startswith(_NODES) for key in keys) else b""
        # Others come while these are written.
        lines = list(inner.lines)
        inner.lines.clear()
        missed, inner.missed = inner.missed, 0
        html = await self._written(lines, missed) if lines else ""
        return _event("lines", html) if html else b""

    def close(self) -> None:
        """See `streams.Source`."""
        self._inner.close()


def routes() -> list[BaseRoute]:
    """What pages follow."""
    return [
        route("GET", "/live", "viewer", _live),
        route("GET", "/logs/follow", "viewer", _follow),
    ]


async def _live(page: Page) -> Response:
    inner = page.cluster.consoles.open(None, _good(page))
    # The page was made a moment ago; what is true now is what it is asked for again at first.
    return EventStream(PageStream(inner, _good(page), None))


async def _follow(page: Page) -> Response:
    inner = page.cluster.consoles.open(log_pages.wanted(page), _good(page))
    return EventStream(PageStream(inner, _good(page), partial(log_pages.rows, page)))


def _good(page: Page) -> Callable[[], Awaitable[bool]]:
    async def good() -> bool:
        who = await access.identify(page.cluster, page.request)
        return who is not None and page.who is not None and who.role == page.who.role

    return good


def _event(name: str, html: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in html.split("\n"))
    return f"event: {name}\n{lines}\n".encode()
