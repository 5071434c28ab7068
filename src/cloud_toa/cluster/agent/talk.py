# SPDX-License-Identifier: Apache-2.0
"""All that a node and its cluster have to say to each other, at the same time.

Nothing here changes the edge, and whatever fails here leaves it alone: what is wanted is handed
on, and what the node is like is asked for.
"""

import asyncio
import logging
import random
from collections import deque
from contextlib import suppress
from typing import Protocol, TypeVar

import httpx
from msgspec.structs import replace

from cloud_toa.cluster.agent.api import Api, TurnedDownError
from cloud_toa.cluster.agent.backoff import Backoff
from cloud_toa.cluster.agent.following import Following
from cloud_toa.cluster.agent.joining import Joining
from cloud_toa.cluster.agent.lines import Lines
from cloud_toa.cluster.agent.rates import Samples
from cloud_toa.cluster.model.protocol import Outcome, Settings, Status, Test
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_STATUS = 15.0
_GATHER = 1.0
"""Seconds in which lines are gathered."""
_SAMPLES = 30.0
_KNOWN_TESTS = 100


class Node(Protocol):
    """Who is talked about."""

    changed: asyncio.Event
    """Set: what `status` answers has changed."""
    newest: int
    """The revision that it knew when it began."""

    def want(self, settings: Settings) -> None:
        """These are what the cluster wants."""

    async def status(self) -> Status:
        """How it is.

        Raises:
            ToaError: it can't be seen now.
        """

    async def test(self, test: Test) -> Outcome:
        """Make a connection; whatever becomes of it is the outcome."""


class _Waiting(Protocol[_T]):
    def take(self) -> list[_T]: ...
    def give_back(self, part: list[_T]) -> None: ...
    def drop(self, part: list[_T]) -> None: ...


class Talk:
    """One node's."""

    def __init__(
        self,
        api: Api,
        joining: Joining,
        node: Node,
        lines: Lines,
        samples: Samples,
    ) -> None:
        self._api, self._node = api, node
        self._lines, self._samples = lines, samples
        self._following = Following(api, joining, node.want, self._ask, node.newest)
        self._asked: deque[str] = deque(maxlen=_KNOWN_TESTS)
        self._tests: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (
                    self._following.run(),
                    self._say_status(),
                    self._say_lines(),
                    self._say_samples(),
                ):
                    tasks.create_task(work)
        finally:
            for task in self._tests:
                task.cancel()
            await asyncio.gather(*self._tests, return_exceptions=True)

    async def last_words(self, seconds: float) -> None:
        """Send the lines that wait, if a server takes them so soon."""
        if self._following.online.is_set() and self._lines.some.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._say("/node/logs", self._lines)

    async def _say_status(self) -> None:
        backoff = Backoff(1.0, _STATUS)
        while True:
            await self._following.online.wait()
            self._node.changed.clear()
            try:
                await self._say_status_once(await self._node.status())
                backoff.reset()
            except ToaError as error:
                _log.debug("its status is not told: %s", error)
                await asyncio.sleep(backoff.next())
                continue
            with suppress(TimeoutError):
                # Not all nodes that came at the same time speak at the same time for ever.
                async with asyncio.timeout(_STATUS * random.uniform(0.85, 1.0)):  # noqa: S311
                    await self._node.changed.wait()

    async def _say_status_once(self, status: Status) -> None:
        try:
            await self._api.send("PUT", "/node/status", status)
        except TurnedDownError as error:
            if error.status != httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                raise
            # Of thousands of origins, what matters most is told: that it is there, and serves what.
            short = replace(status, services={}, origins={}, findings=[])
            await self._api.send("PUT", "/node/status", short)

    async def _say_lines(self) -> None:
        while True:
            await self._lines.some.wait()
            await asyncio.sleep(_GATHER)
            await self._following.online.wait()
            await self._say("/node/logs", self._lines)

    async def _say_samples(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLES * random.uniform(0.8, 1.2))  # noqa: S311  (no secret)
            await self._following.online.wait()
            while self._samples.waiting and await self._say("/node/samples", self._samples):
                pass

    async def _say(self, path: str, waiting: _Waiting[_T]) -> bool:
        """The oldest of what waits; answer whether the server has it."""
        part = waiting.take()
        try:
            await self._api.send("POST", path, part)
        except TurnedDownError:
            # It would be so again. That is not logged: the line would be the next one to go.
            waiting.drop(part)
        except ToaError:
            waiting.give_back(part)
            await asyncio.sleep(_GATHER)
            return False
        except asyncio.CancelledError:
            waiting.give_back(part)
            raise
        return True

    def _ask(self, test: Test) -> None:
        if test.id not in self._asked:
            self._asked.append(test.id)
            task: asyncio.Task[None] = asyncio.create_task(self._answer(test))
            self._tests.add(task)
            task.add_done_callback(self._tests.discard)

    async def _answer(self, test: Test) -> None:
        outcome = await self._node.test(test)
        backoff = Backoff()
        for _ in range(5):
            try:
                await self._api.send("PUT", f"/node/tests/{test.id}", outcome)
            except TurnedDownError as error:
                _log.warning("the outcome of a quick test is not taken: %s", error)
                return
            except ToaError:
                await asyncio.sleep(backoff.next())
            else:
                return
