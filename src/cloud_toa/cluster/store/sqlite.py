# SPDX-License-Identifier: Apache-2.0
"""A store in one SQLite file, for API servers on one machine.

The loop never waits for the disk: one thread writes, another reads, each with a connection of its
own. Calls that come while the disk is busy are written together afterwards; so a hundred of them
take little more than one.

A watch reads from the table of changes. It is woken by whoever changes something in this process;
for other processes, SQLite says whether the file was changed, and is asked ten times a second.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from cloud_toa.cluster.store import (
    Change,
    Entry,
    Event,
    Put,
    UnavailableError,
    sqlite_tables,
)
from cloud_toa.cluster.store.limits import END, batches, check
from cloud_toa.cluster.store.sqlite_file import opened, unavailable

_LOOKING_SECONDS = 0.1
"""So often other processes' changes are looked for."""
_EXPIRING_SECONDS = 0.5
"""So often keys are looked for whose time is over."""
_COMPACTING_SECONDS = 10.0
_TOGETHER = 200
"""Calls that are written at once, at most."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SqliteStore:
    """See `Store`. It belongs to the loop in which it was opened."""

    def __init__(self, path: Path, reader: "_Connection", writer: "_Connection") -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._waiting: list[tuple[Sequence[Change], asyncio.Future[int]]] = []
        self._watches: set[_Watch] = set()
        self._changed = asyncio.Event()
        self._closed = False
        self._writing: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._sweeping = asyncio.create_task(self._sweep())

    @classmethod
    async def open(cls, path: Path) -> "SqliteStore":
        """Open the file, or make it.

        Raises:
            UnavailableError: it can't be a store; the message says why.
        """
        writer = await _Connection.open(path)
        try:
            reader = await _Connection.open(path)
        except BaseException:
            await writer.close()
            raise
        return cls(path, reader, writer)

    async def get(self, key: str) -> Entry | None:
        """See `Store`."""
        return await self._reader.call(sqlite_tables.get, key, time.time())

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, backwards: bool = False
    ) -> tuple[list[Entry], int]:
        """See `Store`."""
        begin, end = prefix, prefix + END
        if after and backwards:
            end = min(end, after)
        elif after:
            begin = max(begin, after + "\0")
        return await self._reader.call(
            sqlite_tables.listing, (begin, end), limit, backwards, time.time()
        )

    async def change(self, *changes: Change) -> int:
        """See `Store`."""
        check(changes)
        if self._closed:
            raise UnavailableError(f"the store {self._path} is closed")
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((changes, answer))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await answer

    async def watch(self, prefix: str, since: int) -> AsyncIterator[Sequence[Event]]:
        """See `Store`."""
        watch = _Watch(prefix, since)
        self._watches.add(watch)
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        try:
            while True:
                watch.woken.clear()
                told, watch.position, more = await self._reader.call(
                    sqlite_tables.events, prefix, watch.position
                )
                for together in told:
                    yield together
                if not more:
                    await watch.wait()
        finally:
            self._watches.discard(watch)

    async def everything(self) -> AsyncIterator[Put]:
        """See `Store`."""
        snapshot = await _Connection.open(self._path)
        try:
            await snapshot.call(sqlite_tables.hold)
            now, after = time.time(), ""
            while rows := await snapshot.call(sqlite_tables.page, after, now):
                for key, value, seconds in rows:
                    yield Put(key, value, seconds=seconds)
                after = rows[-1][0]
        finally:
            await snapshot.close()

    async def fill(self, puts: Sequence[Put], *, replace: bool = False) -> None:
        """See `Store`; all or nothing."""
        for batch in batches(puts):
            check(batch)
        await self._writer.call(sqlite_tables.fill, puts, replace, time.time())
        self._changed.set()

    async def close(self) -> None:
        """See `Store`. Changes that wait are carried out; watches end with `UnavailableError`."""
        self._closed = True
        if self._writing is not None:
            await self._writing
        for task in (self._sweeping, self._following):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._reader.close()
        await self._writer.close()
        for watch in self._watches:
            watch.woken.set()

    async def _write(self) -> None:
        """Carry out what waits, until nothing does."""
        while self._waiting:
            calls, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            answers: Sequence[int | Exception]
            try:
                answers = await self._writer.call(
                    sqlite_tables.keep, [changes for changes, _ in calls], time.time()
                )
            except Exception as error:  # theirs, each of them
                answers = [error] * len(calls)
            for (_, waiting), answer in zip(calls, answers, strict=True):
                if waiting.done():  # cancelled meanwhile
                    continue
                if isinstance(answer, Exception):
                    waiting.set_exception(answer)
                else:
                    waiting.set_result(answer)
            self._changed.set()
        self._writing = None

    async def _follow(self) -> None:
        """Wake the watches of keys that somebody changes."""
        seen, position = None, 0
        while True:
            try:
                if (version := await self._reader.call(sqlite_tables.version)) != seen:
                    keys, last = await self._reader.call(sqlite_tables.changed, position)
                    for watch in self._watches:
                        watch.notice(keys, last)
                    seen, position = version, last
            except UnavailableError:
                for watch in self._watches:  # each finds it out itself
                    watch.woken.set()
            try:
                async with asyncio.timeout(_LOOKING_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    async def _sweep(self) -> None:
        compacted = time.monotonic()
        while True:
            await asyncio.sleep(_EXPIRING_SECONDS)
            try:
                if await self._reader.call(sqlite_tables.due, time.time()):
                    await self._writer.call(sqlite_tables.expire, time.time())
                    self._changed.set()
                if time.monotonic() - compacted > _COMPACTING_SECONDS:
                    compacted = time.monotonic()
                    await self._writer.call(sqlite_tables.compact, time.time())
            except UnavailableError:  # whoever reads or writes is told; here it is tried again
                continue


class _Watch:
    """One that goes on: what it has told, and whether there may be more."""

    def __init__(self, prefix: str, position: int) -> None:
        self.prefix = prefix
        self.position = position
        self.woken = asyncio.Event()
        self._waits = False

    async def wait(self) -> None:
        self._waits = True
        try:
            await self.woken.wait()
        finally:
            self._waits = False

    def notice(self, keys: set[str] | None, last: int) -> None:
        """Up to the revision ``last``, these keys were changed; None where nobody knows."""
        if keys is None or any(key.startswith(self.prefix) for key in keys):
            self.woken.set()
        elif self._waits and not self.woken.is_set():
            # What is others' need not be read, nor be kept for it.
            self.position = max(self.position, last)


class _Connection:
    """A connection with the thread that uses it."""

    def __init__(self, path: Path, thread: ThreadPoolExecutor, db: sqlite3.Connection) -> None:
        self._path = path
        self._thread = thread
        self._db = db
        self._closed = False

    @classmethod
    async def open(cls, path: Path) -> "_Connection":
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            db = await asyncio.get_running_loop().run_in_executor(thread, opened, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, thread, db)

    async def call(self, function: Callable[[sqlite3.Connection, *Ts], T], *arguments: *Ts) -> T:
        """Run a function on the connection, in its thread.

        Raises:
            UnavailableError: SQLite could not, or the store is closed.
        """
        if self._closed:
            raise UnavailableError(f"the store {self._path} is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, function, self._db, *arguments
            )
        except sqlite3.Error as error:
            raise unavailable(self._path, error) from error

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._db.close)
            self._thread.shutdown()
