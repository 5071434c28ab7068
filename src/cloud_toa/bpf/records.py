# SPDX-License-Identifier: Apache-2.0
"""Connections that the option was not written in as it should be, as the sender tells of them.

``edge_records.h`` says when it does. They wait in a ring buffer of the kernel's until they
are read, also while no process of ours runs; when it is full, newer ones are lost.

Source: libbpf 1.0 and later (``bpf/libbpf.h``), ``ring_buffer__new``.
"""

import ctypes
import os
import socket
import struct
from typing import NamedTuple

from cloud_toa.bpf.libbpf import Fd, library
from cloud_toa.config import Where
from cloud_toa.errors import ToaError

SIZE = 1 << 18
"""Bytes of the ring buffer: a power of two, of pages."""

WITHOUT = (
    "syn_without",
    "syn_magic",
    "no_room",
    "no_port",
    "wildcard",
    "elsewhere",
    "not_stored",
    "local",
)
"""Why packets went without, named as the counters; bits in this order in edge_records.h."""

_RECORD = struct.Struct("!16s16sIHBB")  # struct record
_HEADER = 8
MOST = SIZE // (_HEADER + _RECORD.size)
"""Records that it holds."""
_MAPPED = bytes(10) + b"\xff\xff"
_TAKE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_WHERE = tuple(map(Where, range(8)))


class Record(NamedTuple):
    """One connection. Addresses as text; IPv4 as such, also from an IPv6 socket."""

    client: str
    client_port: int
    origin: str
    origin_port: int
    written: Where
    """Packets that carried the option."""
    without: tuple[str, ...]
    """Why others did not, of `WITHOUT`; empty where there were no others to carry it."""


class Records:
    """A sender's; ``ring`` is owned from now on.

    Raises:
        ToaError: it can't be mapped.
    """

    def __init__(self, ring: Fd) -> None:
        self._map = ring
        self._found: list[bytes] = []
        self._take = _TAKE(self._keep)  # referred to, as long as libbpf may call it
        self._ring = library().ring_buffer__new(ring.number, self._take, None, None)
        if not self._ring:
            raise ToaError(
                f"the sender's records can't be read ({os.strerror(ctypes.get_errno())})"
            )

    def read(self) -> list[Record]:
        """Those since the last call, in their order."""
        library().ring_buffer__consume(self._ring)
        found, self._found = self._found, []
        return list(map(_record, found))

    def close(self) -> None:
        """Let go of it; what was not read stays where it is."""
        if self._ring:
            library().ring_buffer__free(self._ring)
            self._ring = None
        self._map.close()

    def __del__(self) -> None:
        self.close()

    def _keep(self, _context: int, data: int, size: int) -> int:
        self._found.append(ctypes.string_at(data, size))
        return 0


def _record(packed: bytes) -> Record:
    client, origin, origin_port, client_port, written, without = _RECORD.unpack(packed)
    why = tuple(name for bit, name in enumerate(WITHOUT) if without >> bit & 1) if without else ()
    return Record(_text(client), client_port, _text(origin), origin_port, _WHERE[written & 7], why)


def _text(address: bytes) -> str:
    if address.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, address[12:])
    return socket.inet_ntop(socket.AF_INET6, address)
