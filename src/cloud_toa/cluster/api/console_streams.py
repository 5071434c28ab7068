# SPDX-License-Identifier: Apache-2.0
"""What browsers follow: settings, nodes, quick tests, and run logs where they ask for them.

Of a node only the newest word waits for a reader, and of logs the last thousand lines.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct

from cloud_toa.cluster.api.streams import event
from cloud_toa.cluster.model import logs, nodes, settings, tests
from cloud_toa.cluster.model.values import MissingError
from cloud_toa.cluster.store import CompactedError, Event, UnavailableError
from cloud_toa.cluster.store.mirror import Mirror

_log = logging.getLogger(__name__)
_MOST_LINES = 1000
_AGAIN_SECONDS = 1.0
_encode = msgspec.json.encode


class Changed(Struct, frozen=True, kw_only=True):
    """The event ``settings``."""

    number: int
    who: str


class Removed(Struct, frozen=True, kw_only=True):
    """The event ``removed``: a node that is no more."""

    id: str


class Gap(Struct, frozen=True, kw_only=True):
    """The event ``gap``: so many lines of logs were passed over, as the reader was slow."""

    lines: int


class ConsoleStream:
    """One browser's; a `streams.Source`."""

    pause = 0.25

    def __init__(
        self,
        streams: "ConsoleStreams",
        wanted: logs.Filter | None,
        good: Callable[[], Awaitable[bool]],
    ) -> None:
        self.woken = asyncio.Event()
        self.ended = False
        self.wanted = wanted
        self.doubtful = False
        """Whether something about the reader has changed."""
        self.keys: dict[str, None] = {settings.KEY: None}
        """What has changed."""
        self.lines: deque[logs.NodeLine] = deque(maxlen=_MOST_LINES)
        self.missed = 0
        self._streams = streams
        self._good = good

    async def take(self) -> bytes:
        """See `streams.Source`."""
        if self.doubtful:
            self.doubtful = False
            if not await self._good():
                self.ended = True
                return b""
        keys, self.keys = self.keys, {}
        due = b"".join([await self._streams.told(key) for key in keys])
        if self.lines:
            due += event("log", _encode(list(self.lines)))
            self.lines.clear()
        if self.missed:
            due += event("gap", _encode(Gap(lines=self.missed)))
            self.missed = 0
        return due

    def close(self) -> None:
        """See `streams.Source`."""
        self._streams.forget(self)

    def add(self, lines: Sequence[logs.NodeLine]) -> None:
        """Lines of run logs, of which some may be wanted."""
        wanted = self.wanted
        if wanted is None:
            return
        for line in lines:
            if wanted.node in ("", line.node) and wanted.lets(line):
                self.missed += len(self.lines) == _MOST_LINES
                self.lines.append(line)
                self.woken.set()


class ConsoleStreams:
    """All of this process."""

    def __init__(self, store: Mirror) -> None:
        self._store = store
        self._streams: set[ConsoleStream] = set()
        self._following: asyncio.Task[None] | None = None

    def open(
        self, wanted: logs.Filter | None, good: Callable[[], Awaitable[bool]]
    ) -> ConsoleStream:
        """A stream for a reader.

        Args:
            wanted: which lines of logs; None for none.
            good: says whether the reader may still read.
        """
        stream = ConsoleStream(self, wanted, good)
        self._streams.add(stream)
        if wanted is not None and self._following is None:
            self._following = asyncio.create_task(self._follow_logs())
        return stream

    def hear(self, events: Sequence[Event]) -> None:
        """Pass on what has changed in the store."""
        if not self._streams:
            return
        for each in events:
            kind, _, id_ = each.key.partition("/")
            if kind in ("users", "sessions", "tokens"):
                for stream in self._streams:
                    stream.doubtful = True
                    stream.woken.set()
                continue
            key = f"nodes/{id_}" if kind in ("status", "alive") else each.key
            for stream in self._streams:
                stream.keys[key] = None
                stream.woken.set()

    async def told(self, key: str) -> bytes:
        """The event that tells what has become of a key."""
        kind, _, id_ = key.partition("/")
        if kind == settings.KEY:
            now = await settings.current(self._store)
            return event("settings", _encode(Changed(number=now.number, who=now.who)))
        try:
            if kind == "nodes":
                return event("node", _encode(await nodes.one(self._store, id_)))
            return event("test", _encode(await tests.one(self._store, id_)))
        except MissingError:
            return event("removed", _encode(Removed(id=id_))) if kind == "nodes" else b""

    def forget(self, stream: ConsoleStream) -> None:
        """Its reader has gone."""
        self._streams.discard(stream)
        if self._following and not any(each.wanted for each in self._streams):
            self._following.cancel()
            self._following = None

    def end_all(self) -> None:
        """Have every stream end."""
        for stream in self._streams:
            stream.ended = True
            stream.woken.set()

    async def stop(self) -> None:
        """Follow no more."""
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow_logs(self) -> None:
        while True:
            with suppress(UnavailableError, CompactedError):
                _, revision = await self._store.list("logs/", limit=1)
                async for events in self._store.watch("logs/", revision):
                    for each in events:
                        if each.value:
                            lines = logs.lines(each.key, each.value)
                            for stream in self._streams:
                                stream.add(lines)
            await asyncio.sleep(_AGAIN_SECONDS)
