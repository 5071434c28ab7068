# SPDX-License-Identifier: Apache-2.0
"""Where an edge's settings come from, and who is told what became of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cloud_toa.errors import ToaError
from cloud_toa.node.edge_file import EdgeFile


class Source(Protocol):
    """A file, one service of the command line, or a cluster."""

    command: str
    """What people have called."""
    path: Path | None
    """The file that has the settings in force; None where there is none."""
    watched: bool
    """Whether a change of that file is a change of the settings."""
    drained: bool
    """Whether the edge is to take no new connections."""
    changed: asyncio.Event
    """Set: read again, now."""

    def read(self) -> EdgeFile:
        """The settings as they are wanted now.

        Raises:
            ToaError: they can't be.
        """

    def applied(self, how: str) -> None:
        """What `read` answered last is in force."""

    def refused(self, error: ToaError) -> None:
        """It is not, and what was in force before is."""


class Local:
    """A file, or what the command line says."""

    command = "cloud-toa edge run"
    drained = False

    def __init__(self, read: Callable[[], EdgeFile], path: Path | None) -> None:
        self._read, self.path = read, path
        self.watched = path is not None
        self.changed = asyncio.Event()

    def read(self) -> EdgeFile:
        """See `Source`."""
        return self._read()

    def applied(self, how: str) -> None:
        """The run log and the state say it."""

    def refused(self, error: ToaError) -> None:
        """As `applied`."""
