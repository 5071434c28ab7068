# SPDX-License-Identifier: Apache-2.0
"""A store whose most wanted keys are held in memory, and followed by watches.

What is read a thousand times a minute is read from here: it is as new as the watches are, which is
milliseconds, and goes on being answered when the store is away. Nothing is written here before
the store has it. Whoever changes something reads it from here once the call has returned.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from cloud_toa.cluster.store import (
    Change,
    CompactedError,
    ConflictError,
    Entry,
    Event,
    Put,
    Store,
    UnavailableError,
)

_log = logging.getLogger(__name__)
_AGAIN_SECONDS = 0.5
_SEEN_SECONDS = 5.0
"""Somebody who changed something waits so long at most for it to be seen here."""

Listener = Callable[[Sequence[Event]], None]


class Mirror:
    """A `Store` in front of another."""

    def __init__(self, store: Store, prefixes: Sequence[str]) -> None:
        self.store = store
        self._parts = [_Part(store, prefix) for prefix in prefixes]

    async def start(self) -> None:
        """Read what is to be held, and follow it from then on.

        Raises:
            UnavailableError: the store does not answer.
        """
        for part in self._parts:
            await part.read()
        for part in self._parts:
            part.task = asyncio.create_task(part.follow())

    def listen(self, listener: Listener) -> None:
        """Have this called with whatever changes in what is held, in order by key."""
        for part in self._parts:
            part.listeners.append(listener)

    async def get(self, key: str) -> Entry | None:
        """See `Store`."""
        part = self._part(key)
        return await self.store.get(key) if part is None else part.held.get(key)

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, backwards: bool = False
    ) -> tuple[list[Entry], int]:
        """See `Store`."""
        part = self._part(prefix)
        if part is None:
            return await self.store.list(prefix, after=after, limit=limit, backwards=backwards)
        keys = sorted((key for key in part.held if key.startswith(prefix)), reverse=backwards)
        if after:
            keys = [key for key in keys if (key < after if backwards else key > after)]
        return [part.held[key] for key in keys[:limit]], part.revision

    async def change(self, *changes: Change) -> int:
        """See `Store`."""
        try:
            revision = await self.store.change(*changes)
        except ConflictError:
            for key in (each.key for each in changes):
                if part := self._part(key):
                    entry = await self.store.get(key)
                    await part.seen(key, entry.revision if entry else None)
            raise
        for each in changes:
            if part := self._part(each.key):
                await part.seen(each.key, revision if isinstance(each, Put) else None)
        return revision

    def watch(self, prefix: str, since: int) -> AsyncIterator[Sequence[Event]]:
        """See `Store`."""
        return self.store.watch(prefix, since)

    def everything(self) -> AsyncIterator[Put]:
        """See `Store`."""
        return self.store.everything()

    async def fill(self, puts: Sequence[Put], *, replace: bool = False) -> None:
        """See `Store`."""
        await self.store.fill(puts, replace=replace)

    async def close(self) -> None:
        """Follow no more; the store is closed as well."""
        tasks = [part.task for part in self._parts if part.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.close()

    def _part(self, key: str) -> "_Part | None":
        return next((part for part in self._parts if key.startswith(part.prefix)), None)


class _Part:
    """The keys that begin so."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self.prefix = prefix
        self.held: dict[str, Entry] = {}
        self.revision = 0
        self.listeners: list[Listener] = []
        self.task: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()

    async def read(self) -> None:
        """Hold what the store has now; tell how that differs from before."""
        entries, revision = await self._store.list(self.prefix)
        before, self.held = self.held, {entry.key: entry for entry in entries}
        gone = [Event(key, None, revision) for key in before if key not in self.held]
        new = [
            Event(entry.key, entry.value, entry.revision)
            for entry in entries
            if before.get(entry.key) != entry
        ]
        await self._tell([*gone, *new], revision)

    async def follow(self) -> None:
        away = False
        while True:
            try:
                async for events in self._store.watch(self.prefix, self.revision):
                    away = False
                    self._apply(events)
                    await self._tell(events, events[-1].revision)
            except CompactedError:
                with suppress(UnavailableError):
                    await self.read()
                    continue
            except UnavailableError as error:
                if not away:
                    _log.warning("the store can't be followed: %s", error)
                away = True
            except Exception:
                # A fault in what listens; to follow no more would be worse than to miss this.
                _log.exception("what has changed in the store was not understood")
            await asyncio.sleep(_AGAIN_SECONDS)

    async def seen(self, key: str, revision: int | None) -> None:
        """Wait until what is held of a key is so new; until it is gone where that is None."""

        def here() -> bool:
            held = self.held.get(key)
            if revision is None:
                return held is None
            return self.revision >= revision or (held is not None and held.revision >= revision)

        with suppress(TimeoutError):
            async with asyncio.timeout(_SEEN_SECONDS), self._moved:
                await self._moved.wait_for(here)

    def _apply(self, events: Sequence[Event]) -> None:
        for event in events:
            if event.value is None:
                self.held.pop(event.key, None)
            else:
                self.held[event.key] = Entry(event.key, event.value, event.revision)

    async def _tell(self, events: Sequence[Event], revision: int) -> None:
        self.revision = max(self.revision, revision)
        if events:
            for listener in self.listeners:
                listener(events)
        async with self._moved:
            self._moved.notify_all()
