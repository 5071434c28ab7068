# SPDX-License-Identifier: Apache-2.0
"""Where a cluster keeps what it knows: keys with values, in one order of revisions.

Whatever the backend, these hold:

- Each change has a revision, larger than that of every change before it. What is changed in
  one call has one revision.
- A change is kept when the call returns. If it raises `ConflictError`, nothing was changed. If it
  raises `UnavailableError`, it may have been, or not; whoever reads it again sees which.
- `Store.watch` tells every change after a revision, in order, each once, and none of a call
  in part. One that can't tell them all any more raises `CompactedError`: read, and watch again.
- An expiring key is gone when its time is over, and watches are told as of any other.

Keys are text with slashes, such as ``nodes/7f3a``; values are bytes, up to a megabyte.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from cloud_toa.errors import ToaError


class ConflictError(ToaError):
    """Somebody else has changed a key meanwhile: nothing was changed."""


class CompactedError(ToaError):
    """Changes since so long ago are not kept any more."""


class UnavailableError(ToaError):
    """The store does not answer, or can't keep anything; the message says why."""


class Entry(Struct, frozen=True):
    """A key with its value."""

    key: str
    value: bytes
    revision: int
    """Of its last change."""


class Put(Struct, frozen=True):
    """A key that gets a value."""

    key: str
    value: bytes
    expected: int | None = None
    """The key's revision, 0 where it must not exist; None where that does not matter."""
    seconds: float | None = None
    """After so long it is gone, unless it is put again; None: it stays."""


class Delete(Struct, frozen=True):
    """A key that goes; one that is not there is no error unless ``expected`` says so."""

    key: str
    expected: int | None = None


Change = Put | Delete


class Event(Struct, frozen=True):
    """What has become of a key; ``value`` is None where it is gone."""

    key: str
    value: bytes | None
    revision: int


class Store(Protocol):
    """One of the backends. Every call may raise `UnavailableError`."""

    async def get(self, key: str) -> Entry | None:
        """A key as it is; None where it is not there."""

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, backwards: bool = False
    ) -> tuple[list[Entry], int]:
        """Keys that begin so, in order, and the revision that the whole answer is of.

        Args:
            prefix: all keys where it is empty.
            after: only keys behind this one; before it where the order is ``backwards``.
            limit: so many at most.
            backwards: the last key first.
        """

    async def change(self, *changes: Change) -> int:
        """Change these keys, all or none; answer the revision.

        Raises:
            ConflictError: a key's revision is not the expected one.
        """

    def watch(self, prefix: str, since: int) -> AsyncIterator[Sequence[Event]]:
        """The changes of keys that begin so, after a revision, as they come; without end.

        Those of one revision come together.

        Raises:
            CompactedError: they are not kept that long.
        """

    def everything(self) -> AsyncIterator[Put]:
        """All keys, of one revision and in order, as what puts them; ``seconds`` are those left."""

    async def fill(self, puts: Sequence[Put], *, replace: bool = False) -> None:
        """Put all of these into a store that is empty, or becomes so by ``replace``.

        Raises:
            ConflictError: it is not empty.
            UnavailableError: also where the backend could not do it at once, and stopped half-way.
        """

    async def close(self) -> None:
        """Let go of what it holds."""
