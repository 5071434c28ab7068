# SPDX-License-Identifier: Apache-2.0
"""What each worker has done, in memory that outlives it and that others may read."""

import mmap
from struct import Struct

NAMES = ("packets", "written", "no_room", "passed", "errors", "local")
"""In this order, 64 bits each, in the host's byte order, for each worker:

packets    that came from the kernel
written    packets that left with the option
no_room    left without: the header was full, or the path's MTU would have been exceeded
passed     left untouched: nobody named a client, or Linux would misread this SYN
errors     that the kernel refused to take back, or that nobody understood
local      left untouched: the client named is a loopback or link-local one, and the
           destination another host
"""

_ROW = Struct(f"={len(NAMES)}Q")


def size(workers: int) -> int:
    """Bytes for this many workers."""
    return workers * _ROW.size


class Row:
    """One worker's counters."""

    def __init__(self, memory: mmap.mmap, worker: int) -> None:
        self._memory = memory
        self._at = worker * _ROW.size

    def add(self, counts: tuple[int, ...]) -> None:
        """Add to all of them, in the order of `NAMES`; only its own worker may."""
        before = _ROW.unpack_from(self._memory, self._at)
        _ROW.pack_into(self._memory, self._at, *map(int.__add__, before, counts))

    def read(self) -> dict[str, int]:
        """All of them by name."""
        return dict(zip(NAMES, _ROW.unpack_from(self._memory, self._at), strict=True))
