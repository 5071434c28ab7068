# SPDX-License-Identifier: Apache-2.0
"""What a slow reader of run logs is told of what he missed: by the API, and on the page."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from cloud_toa.cluster.api.cluster import Cluster, Options
from cloud_toa.cluster.api.console_streams import ConsoleStream
from cloud_toa.cluster.console import log_pages
from cloud_toa.cluster.console.live import PageStream
from cloud_toa.cluster.console.page import Page
from cloud_toa.cluster.console.texts import Texts
from cloud_toa.cluster.model.logs import Filter, NodeLine
from cloud_toa.cluster.store.sqlite import SqliteStore

WAITING = 1000
"""As many lines wait for a reader."""


async def good() -> bool:
    return True


def lines(first: int, count: int) -> list[NodeLine]:
    return [
        NodeLine(node="n1", time=float(at), level="info", tag="TOA", text=f"line {at}.")
        for at in range(first, first + count)
    ]


def followed(path: Path, test: Callable[[Cluster, ConsoleStream], Awaitable[None]]) -> None:
    """Run a test with somebody who follows all lines and nothing else."""

    async def main() -> None:
        cluster = Cluster(await SqliteStore.open(path / "cluster.db"), Options())
        await cluster.start()
        try:
            stream = cluster.consoles.open(Filter(), good)
            stream.keys.clear()
            await test(cluster, stream)
        finally:
            await cluster.stop()

    asyncio.run(main())


def test_the_api_tells_of_a_gap(tmp_path: Path) -> None:
    async def test(_: Cluster, stream: ConsoleStream) -> None:
        stream.add(lines(0, WAITING))
        assert b"event: gap" not in await stream.take()
        stream.add(lines(0, WAITING + 3))
        log, gap = (await stream.take()).decode().strip().split("\n\n")
        assert log.startswith("event: log\n")
        told = json.loads(log.partition("data: ")[2])
        assert [told[0]["text"], told[-1]["text"]] == ["line 3.", "line 1002."]
        assert gap == 'event: gap\ndata: {"lines":3}'
        # Told once.
        stream.add(lines(0, 1))
        assert b"event: gap" not in await stream.take()

    followed(tmp_path, test)


def page_of(cluster: Cluster, language: str) -> Page:
    app = SimpleNamespace(state=SimpleNamespace(cluster=cluster))
    return Page(Request({"type": "http", "app": app}), None, Texts(language), "auto")


@pytest.mark.parametrize(
    ("language", "says"), [("en", "3 lines were passed over"), ("zh", "有3行日志被跳过")]
)
def test_the_page_tells_of_a_gap(tmp_path: Path, language: str, says: str) -> None:
    async def test(cluster: Cluster, inner: ConsoleStream) -> None:
        stream = PageStream(inner, good, partial(log_pages.rows, page_of(cluster, language)))
        inner.add(lines(0, WAITING + 3))
        rows = (await stream.take()).decode().split("<tr>")[1:]
        # The newest is on top, and what was missed is older than all that are there.
        assert "line 1002." in rows[0]
        assert "line 3." in rows[WAITING - 1]
        assert says in rows[WAITING]
        inner.add(lines(0, 1))
        said = (await stream.take()).decode()
        assert "line 0." in said
        assert says[1:] not in said
        assert await stream.take() == b""

    followed(tmp_path, test)


def test_lines_that_come_while_the_page_is_written_are_on_it_later(tmp_path: Path) -> None:
    async def test(cluster: Cluster, inner: ConsoleStream) -> None:
        async def slow(found: Sequence[NodeLine], missed: int) -> str:
            inner.add(lines(5, 1))
            return f"{[line.text for line in found]} {missed}"

        stream = PageStream(inner, good, slow)
        inner.add(lines(4, 1))
        assert b"['line 4.'] 0" in await stream.take()
        assert b"['line 5.'] 0" in await stream.take()

    followed(tmp_path, test)
