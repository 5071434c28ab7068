# SPDX-License-Identifier: Apache-2.0
"""A source of settings, played without an edge."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.source import ClusterSource
from cloud_toa.cluster.model.protocol import Settings


def text(name: str) -> str:
    return f"""[[service]]
name = "{name}"
listen = ["127.0.0.1:8080"]
[[service.origin]]
address = "192.0.2.7"
port = 80
"""


ONE, TWO, THREE = (Settings(revision=at, text=text(f"s{at}")) for at in (1, 2, 3))


class Played:
    """A source, and what it says to others."""

    def __init__(self, folder: Path) -> None:
        self.told = self.starts = 0
        self.kept = Kept(folder)
        self.source = ClusterSource(self.kept, self._tell, self._start)

    def _tell(self) -> None:
        self.told += 1

    def _start(self) -> None:
        self.starts += 1

    @property
    def name(self) -> str:
        """Of the service that is read."""
        self.source.changed.clear()
        return self.source.read().service[0].name

    def apply(self, settings: Settings) -> None:
        self.source.want(settings)
        assert self.name
        self.source.applied("by hand")


Act = Callable[[Played], Awaitable[None]]


Play = Callable[[Act], None]
