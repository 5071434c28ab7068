# SPDX-License-Identifier: Apache-2.0
"""What nodes' run logs say. A key has the lines of one call, under the time of its arrival.

Of each node the last `MOST` calls are kept, a week at most.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from cloud_toa.cluster.model.protocol import Line
from cloud_toa.cluster.model.values import put
from cloud_toa.cluster.store import Delete, Put, Store

MOST = 1000
LONGEST = 2000
"""Characters of a line; the rest of it is cut off."""
_WEEK = 7 * 86400.0
_PIECE = 50
"""Calls that are read at a time."""
_TOGETHER = 100
"""Changes in one call to the store."""

_LEVELS = ("debug", "info", "warning", "error")
_lines = msgspec.json.Decoder(list[Line])


class NodeLine(Struct, frozen=True, kw_only=True):
    """A line, and which node's it is."""

    node: str
    time: float
    level: str
    tag: str
    text: str


class Filter(Struct, frozen=True, kw_only=True):
    """Which lines are wanted."""

    node: str = ""
    """Its id; all where it is empty."""
    level: str = "debug"
    """This one and worse ones."""
    tag: str = ""
    word: str = ""
    """In the text, capital or not."""
    since: float = 0.0
    until: float = 1e11

    def lets(self, line: Line | NodeLine) -> bool:
        """Whether a line is wanted; its node is not looked at."""
        return (
            self.since <= line.time <= self.until
            and _LEVELS.index(line.level) >= _LEVELS.index(self.level)
            and (not self.tag or line.tag == self.tag)
            and self.word.casefold() in line.text.casefold()
        )


def kept(id_: str, lines: Sequence[Line], ahead: float) -> Put:
    """The change that keeps lines of a node whose clock is so many seconds ahead."""
    told = [
        msgspec.structs.replace(line, time=line.time - ahead, text=line.text[:LONGEST])
        for line in lines
    ]
    key = f"logs/{id_}/{int(time.time() * 1e9):020d}{secrets.token_hex(2)}"
    return put(key, told, 0, _WEEK)


async def trim(store: Store, id_: str) -> None:
    """Let go of what is more than is kept of a node."""
    entries, _ = await store.list(f"logs/{id_}/")
    old = [Delete(entry.key) for entry in entries[:-MOST]]
    for at in range(0, len(old), _TOGETHER):
        await store.change(*old[at : at + _TOGETHER])


async def latest(
    store: Store, ids: Sequence[str], wanted: Filter, limit: int = 200
) -> list[NodeLine]:
    """The last lines of these nodes that are wanted, oldest first."""
    turn = asyncio.Semaphore(16)

    async def of(id_: str) -> list[NodeLine]:
        async with turn:
            return await _of_node(store, id_, wanted, limit)

    found = await asyncio.gather(*map(of, ids))
    lines = sorted((line for each in found for line in each), key=lambda line: line.time)
    return lines[-limit:]


def lines(key: str, value: bytes) -> list[NodeLine]:
    """The lines that a key has."""
    id_ = key.split("/")[1]
    return [_of(id_, line) for line in _lines.decode(value)]


async def _of_node(store: Store, id_: str, wanted: Filter, limit: int) -> list[NodeLine]:
    found: list[NodeLine] = []
    prefix = f"logs/{id_}/"
    # What was said until then has arrived a little later; offline nodes tell after a while.
    after = ""
    while len(found) < limit:
        entries, _ = await store.list(prefix, after=after, limit=_PIECE, backwards=True)
        for entry in entries:
            arrived = int(entry.key[len(prefix) :][:20]) / 1e9
            if arrived < wanted.since:
                return found
            told = [_of(id_, line) for line in _lines.decode(entry.value) if wanted.lets(line)]
            found += reversed(told)
        if len(entries) < _PIECE:
            break
        after = entries[-1].key
    return found


def _of(id_: str, line: Line) -> NodeLine:
    return NodeLine(node=id_, time=line.time, level=line.level, tag=line.tag, text=line.text)
