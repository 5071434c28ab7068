# SPDX-License-Identifier: Apache-2.0
"""A node without an edge that talks to real API servers, and a proxy between them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cloud_toa.cluster.agent import servers
from cloud_toa.cluster.agent.api import Api
from cloud_toa.cluster.agent.joining import Joining
from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.lines import Lines
from cloud_toa.cluster.agent.rates import Samples
from cloud_toa.cluster.agent.talk import Talk
from cloud_toa.cluster.model.protocol import Applied, Facts, Outcome, Settings, Status, Test

FACTS = Facts(version="0.1.0", kernel="6.1.0", architecture="x86_64", hostname="edge-1")
PATIENCE = 60.0


class PlainNode:
    """Takes any settings at once; ``ahead`` are seconds by which its clock is wrong."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.newest = 0
        self.changed = asyncio.Event()
        self.heard: list[Settings] = []
        self.tests: list[Test] = []
        self.ahead = ahead

    def want(self, settings: Settings) -> None:
        self.heard.append(settings)
        self.changed.set()

    @property
    def revisions(self) -> list[int]:
        return [settings.revision for settings in self.heard]

    async def status(self) -> Status:
        revision = self.revisions[-1] if self.heard else 0
        return Status(
            facts=FACTS,
            time=time.time() + self.ahead,
            applied=Applied(revision=revision, wanted=revision),
        )

    async def test(self, test: Test) -> Outcome:
        self.tests.append(test)
        return Outcome(client="192.0.2.1:5000", service=test.service, packets=["SYN"], good=True)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.01)  # whoever changes it is somebody else each time


class Talking:
    """One node, and all that it talks with."""

    def __init__(self, folder: Path, *urls: str, ahead: float = 0.0) -> None:
        self.node = PlainNode(ahead)
        self.kept = Kept(folder / "node")
        self.file = folder / "token"
        self.api = Api(servers.parse(urls, insecure=True))
        self.lines, self.samples = Lines(), Samples()
        joining = Joining(self.kept, self.file, "edge-1", FACTS)
        self.talk = Talk(self.api, joining, self.node, self.lines, self.samples)


@asynccontextmanager
async def talking(folder: Path, *urls: str, ahead: float = 0.0) -> AsyncIterator[Talking]:
    """It talks; the token file must be there."""
    one = Talking(folder, *urls, ahead=ahead)
    task = asyncio.create_task(one.talk.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await one.api.close()
        one.kept.close()


class Proxy:
    """Passes connections on to a server's port, as far as it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.open = asyncio.Event()
        """Whether what the server says is passed on."""
        self.open.set()
        self.holds_events = False
        """Whether answers that are event streams are kept back."""
        self.loses_answers = False
        """Whether a connection ends in place of each answer, which the server has given."""
        self.lost = 0
        self.taken = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        # Whenever it is cancelled, as the scene is over: what is open is closed.
        async with _closing(writer):
            answers, questions = await asyncio.open_connection("127.0.0.1", self._port)
            async with _closing(questions):
                tasks = [
                    asyncio.ensure_future(each)
                    for each in (_pass(reader, questions), self._pass_back(answers, writer))
                ]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in tasks:
                        each.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self.open.wait()
            if self.loses_answers:
                self.lost += 1
                return
            if self.holds_events and b"text/event-stream" in data:
                await asyncio.Event().wait()
            writer.write(data)


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


@asynccontextmanager
async def proxied(port: int) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy, and its URL."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    try:
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def run(scene: Awaitable[None]) -> None:
    """Play a scene."""

    async def play() -> None:
        await scene
        # Connections of a proxy end with it.
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    asyncio.run(play())
