# SPDX-License-Identifier: Apache-2.0
"""A running server on real sockets, and how to talk to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from cloud_toa.control import ControlServer
from cloud_toa.ports import SIZE, PortTable


class Desk:
    """A running server, and how to talk to it."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.path = path
        self.table = PortTable(bytearray(SIZE))
        self.quit = asyncio.Event()
        self.server = ControlServer(path, self.table, (254, 254), group, self.quit.set)
        self.counters = self.server.counters

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)

    async def say(self, text: bytes) -> bytes:
        """Everything that a peer is answered that says this and no more."""
        reader, writer = await self.open()
        writer.write(text)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(path: Path, group: str | None = None) -> AsyncIterator[Desk]:
    desk = Desk(path, group)
    await desk.server.start()
    try:
        yield desk
    finally:
        await desk.server.close()


def waiting(desk: Desk) -> int:
    return desk.table.count(0)
