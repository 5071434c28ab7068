# SPDX-License-Identifier: Apache-2.0
"""What a node is told: by events, and by asking where events do not get through.

A proxy that gathers an answer before it passes it on lets no event through. A server says the
settings at once; where they do not come within ten seconds, the node asks for them every ten
seconds instead, and tries events again after five minutes.

What the server says counts, also where its revision is older than one that was heard before: a
store may have been restored from a backup. But another server may only be behind, for some
seconds; so an older revision is believed when the server still says it ten seconds later.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import httpx
import msgspec

from cloud_toa.cluster.agent.api import Api, RevokedError, UnreachableError
from cloud_toa.cluster.agent.backoff import Backoff
from cloud_toa.cluster.agent.joining import Joining
from cloud_toa.cluster.model.protocol import Settings, Test
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)

_FIRST = 10.0
_ASK = 10.0
_EVENTS_AGAIN = 300.0
_DOUBT = 10.0
_REFUSED = 60.0
_LOOK = 2.0
"""Seconds between looks at the token file while the token is refused."""


class Following:
    """A node's ear.

    Args:
        api: the servers.
        joining: the node's way in.
        settings: is told what is wanted.
        test: is told of a test.
        newest: the revision that was heard of before.
    """

    def __init__(
        self,
        api: Api,
        joining: Joining,
        settings: Callable[[Settings], None],
        test: Callable[[Test], None],
        newest: int = 0,
    ) -> None:
        self.online = asyncio.Event()
        """Whether a server was heard just now, and can be talked to."""
        self._api, self._joining = api, joining
        self._settings, self._test = settings, test
        self._newest = newest
        self._doubted: asyncio.Task[None] | None = None
        self._trouble = ""
        self._backoff = Backoff()

    async def run(self) -> None:
        """For ever."""
        try:
            while True:
                try:
                    await self._joining.identify(self._api)
                    await self._hear()
                except RevokedError as error:
                    self.online.clear()
                    await self._wait_for_token(error)
                except ToaError as error:
                    self._lost(error)
                    self._api.go_on()
                    await asyncio.sleep(self._backoff.next())
        finally:
            self._no_doubt()

    async def _hear(self) -> None:
        """Until the stream ends."""
        told = False
        async with aclosing(self._api.events()) as events:
            try:
                first = await _within(_FIRST, anext(events))
            except StopAsyncIteration:
                raise UnreachableError(f"{self._api.server} ended the events at once") from None
            except TimeoutError:
                pass
            else:
                told = True
                self._reached("by events")
                self._take(first)
                async for event in events:
                    self._take(event)
        if not told:
            await self._ask_instead()
            return
        self.online.clear()
        raise UnreachableError(f"{self._api.server} ended the events")

    async def _ask_instead(self) -> None:
        """For five minutes."""
        tag = ""
        for _ in range(int(_EVENTS_AGAIN / _ASK)):
            response = await self._api.send("GET", "/node/settings", None, {"If-None-Match": tag})
            self._reached("by asking, as no events come")
            tag = response.headers.get("ETag", "")
            if response.status_code != httpx.codes.NOT_MODIFIED:
                self._take(_decoded(self._api, response))
            await asyncio.sleep(_ASK * random.uniform(0.8, 1.2))  # noqa: S311  (no secret)

    def _take(self, event: Settings | Test) -> None:
        if isinstance(event, Test):
            self._test(event)
            return
        self._no_doubt()
        if event.revision < self._newest:
            _log.warning(
                "%s says revision %d, and %d was there before: it is asked again in %.0f s",
                self._api.server, event.revision, self._newest, _DOUBT,
            )  # fmt: skip
            self._doubted = asyncio.create_task(self._ask_again())
            return
        self._newest = event.revision
        self._settings(event)

    async def _ask_again(self) -> None:
        """After an older revision was said: what is said now counts."""
        while True:
            await asyncio.sleep(_DOUBT)
            try:
                now = _decoded(self._api, await self._api.send("GET", "/node/settings"))
            except ToaError as error:
                _log.debug("%s", error)
                continue
            if now.revision < self._newest:
                _log.warning("revision %d is what is wanted now", now.revision)
            self._newest = now.revision
            self._settings(now)
            return

    def _no_doubt(self) -> None:
        if self._doubted is not None:
            self._doubted.cancel()
            self._doubted = None

    def _reached(self, how: str) -> None:
        if not self.online.is_set() or self._trouble:
            _log.info("follows %s, %s", self._api.server, how)
        self._trouble = ""
        self._backoff.reset()
        self.online.set()

    def _lost(self, error: ToaError) -> None:
        """Say it, once for the same."""
        self.online.clear()
        if str(error) != self._trouble:
            _log.warning("%s; settings that are in force go on", error)
        self._trouble = str(error)

    async def _wait_for_token(self, error: RevokedError) -> None:
        """Until there may be one that is good."""
        if str(error) != self._trouble:
            _log.error(
                "this node's token is not good (%s). Settings that are in force go on. Have a "
                "token issued in the console, under Nodes, and write it to the token file",
                error,
            )
        self._trouble = str(error)
        for _ in range(int(_REFUSED / _LOOK * random.uniform(0.75, 1.25))):  # noqa: S311
            await asyncio.sleep(_LOOK)
            try:
                if await self._joining.renew(self._api):
                    return
            except ToaError as again:
                if not isinstance(again, UnreachableError) and str(again) != self._trouble:
                    _log.error("%s", again)
                    self._trouble = str(again)


async def _within(seconds: float, event: Awaitable[Settings | Test]) -> Settings | Test:
    async with asyncio.timeout(seconds):
        return await event


def _decoded(api: Api, response: httpx.Response) -> Settings:
    try:
        return msgspec.json.decode(response.content, type=Settings)
    except msgspec.DecodeError as error:
        raise UnreachableError(f"{api.server} says what are no settings: {error}") from None
