# SPDX-License-Identifier: Apache-2.0
"""What nodes hear: settings at once and at each change, and quick tests.

Settings are encoded once for all nodes, and once more for drained ones. A reader that is slow
is told the newest settings when its turn comes, and not those in between.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from cloud_toa.cluster.api.streams import event
from cloud_toa.cluster.model import nodes, settings, tests
from cloud_toa.cluster.model.nodes import Node
from cloud_toa.cluster.model.protocol import Settings
from cloud_toa.cluster.model.settings import Revision
from cloud_toa.cluster.model.values import MissingError
from cloud_toa.cluster.store import Event
from cloud_toa.cluster.store.mirror import Mirror

_MOST_TESTS = 20
"""That wait for one reader; older ones are let go."""

_MOST_STREAMS = 4
"""Of one node; when it opens another, the oldest ends."""

_revision = msgspec.json.Decoder(Revision)
_node = msgspec.json.Decoder(Node)
_test = msgspec.json.Decoder(tests.QuickTest)


class NodeStream:
    """One node's; a `streams.Source`."""

    pause = 0.0

    def __init__(self, streams: "NodeStreams", node: Node) -> None:
        self.woken = asyncio.Event()
        self.ended = False
        self.node = node
        self.tests: deque[tests.QuickTest] = deque(maxlen=_MOST_TESTS)
        self.settings_due = True
        self._streams = streams

    async def take(self) -> bytes:
        """See `streams.Source`."""
        due = b""
        if self.settings_due:
            self.settings_due = False
            due = self._streams.encoded(self.node.drained)
        while self.tests:
            asked = self.tests.popleft().asked
            due += event("test", msgspec.json.encode(asked), asked.id)
        return due

    def close(self) -> None:
        """See `streams.Source`."""
        self._streams.forget(self)


class NodeStreams:
    """All of this process."""

    def __init__(self, store: Mirror) -> None:
        self._store = store
        self._streams: dict[str, list[NodeStream]] = {}
        self._current = settings.NONE
        self._encoded: dict[bool, bytes] = {}

    def __len__(self) -> int:
        return sum(map(len, self._streams.values()))

    async def open(self, node: Node) -> NodeStream:
        """A stream for a node, with the tests that it has not answered."""
        stream = NodeStream(self, node)
        among = self._streams.setdefault(node.id, [])
        among.append(stream)
        for oldest in among[:-_MOST_STREAMS]:
            oldest.ended = True
            oldest.woken.set()
        # From here on changes are heard; what was before is looked up.
        for test in await tests.latest(self._store, node.id):
            if test.outcome is None:
                stream.tests.appendleft(test)
        try:
            now, _ = await nodes.known(self._store, node.id)
            self._changed(node.id, now)
        except MissingError:
            self._changed(node.id, None)
        return stream

    def encoded(self, drained: bool) -> bytes:
        """The event ``settings``."""
        if drained not in self._encoded:
            told = self.settings(drained)
            self._encoded[drained] = event(
                "settings", msgspec.json.encode(told), str(told.revision)
            )
        return self._encoded[drained]

    def settings(self, drained: bool) -> Settings:
        """What a node is to run."""
        now = self._current
        return Settings(revision=now.number, text=now.text, drained=drained)

    def hear(self, events: Sequence[Event]) -> None:
        """Pass on what has changed in the store."""
        for each in events:
            if each.key == settings.KEY:
                self._current = _revision.decode(each.value) if each.value else settings.NONE
                self._encoded.clear()
                for among in self._streams.values():
                    for stream in among:
                        stream.settings_due = True
                        stream.woken.set()
            elif each.key.startswith("nodes/"):
                self._changed(each.key[6:], _node.decode(each.value) if each.value else None)
            elif each.key.startswith(tests.PREFIX) and each.value:
                self._ask(_test.decode(each.value))

    def forget(self, stream: NodeStream) -> None:
        """Its reader has gone."""
        among = self._streams.get(stream.node.id, [])
        if stream in among:
            among.remove(stream)
        if not among:
            self._streams.pop(stream.node.id, None)

    def end_all(self) -> None:
        """Have every stream end."""
        for among in self._streams.values():
            for stream in among:
                stream.ended = True
                stream.woken.set()

    def _changed(self, id_: str, node: Node | None) -> None:
        for stream in self._streams.get(id_, ()):
            if node is None or node.token_hash != stream.node.token_hash:
                stream.ended = True
            elif node.drained != stream.node.drained:
                stream.settings_due = True
            stream.node = node or stream.node
            stream.woken.set()

    def _ask(self, test: tests.QuickTest) -> None:
        if test.outcome is None:
            for stream in self._streams.get(test.node, ()):
                if all(each.id != test.id for each in stream.tests):
                    stream.tests.append(test)
                    stream.woken.set()
