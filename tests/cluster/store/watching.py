# SPDX-License-Identifier: Apache-2.0
"""What a watch tells, taken as it comes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from cloud_toa.cluster.store import Event, Store


class Watching:
    """A watch that goes on while the test does something else."""

    def __init__(self, store: Store, prefix: str, since: int) -> None:
        self.told: list[list[Event]] = []
        self._more = asyncio.Condition()
        self._store = store
        self._from = prefix, since

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self.task

    async def until(
        self, enough: Callable[[list[Event]], bool], seconds: float = 20
    ) -> list[Event]:
        """All events so far, once they are enough."""
        async with asyncio.timeout(seconds), self._more:
            while not enough(self.events):
                if self.task.done():
                    self.task.result()
                await self._more.wait()
        return self.events

    async def until_key(self, key: str) -> list[Event]:
        return await self.until(lambda events: any(event.key == key for event in events))

    @property
    def events(self) -> list[Event]:
        return [event for together in self.told for event in together]

    async def _watch(self) -> None:
        try:
            async for together in self._store.watch(*self._from):
                async with self._more:
                    self.told.append(list(together))
                    self._more.notify_all()
        finally:
            async with self._more:
                self._more.notify_all()
