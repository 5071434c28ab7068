# SPDX-License-Identifier: Apache-2.0
"""Clients by the local TCP port that a load balancer is going to connect from.

The table is memory that several processes share: a memfd for the queue's workers,
or an eBPF array map that programs in the kernel read. So its layout is a contract:
65,536 entries of 40 bytes, index = port, in the host's byte order unless said::

    u64 until       CLOCK_MONOTONIC nanoseconds from which the entry is void
    u32 peer        who took it (queue datapath only): CRC-32 as of zlib over the
                    destination's address and port, both in network byte order
    u32 isn         initial sequence number of the SYN that took it, 0 if a later
                    packet did
    u8  state       0 empty, 1 waiting, 2 taken
    u8  late        1: a packet after the SYN may take it as well
    u8  length      of the option: 8 or 20
    u8  reserved    0
    u8  option[20]  the TCP option as on the wire

Entry 0 is no port. Its ``late`` is 1 once a peer was connected that can't know when
its entry is stored: only then is it worthwhile to look again after the SYN.

An entry goes waiting → taken, by one connection alone, whose retransmissions and
later packets find it again. Another connection's SYN from that port clears it: the
port was used again without a client, and no client is better than a stale one.
Programs in the kernel need no taken state: they keep the option with the socket and
empty the entry at once.

Every port has its place, so nothing is ever evicted: 65,535 entries at most, and an
`add` for a port replaces what was there.

Other processes look at any time, without a lock. So `add` sets the state to 0 first and
to its value last, and who reads does so twice: what differs is being written, and counts
as empty. `take` writes what says who took it, never the option, and empties the entry if
another `add` came in between. Two processes that take one waiting entry at the same
moment would both have it; but a port that is bound has one connection at a time.
"""

import mmap
import struct
from typing import NamedTuple

ENTRY = struct.Struct("=QIIBBBB20s")
_TAKER = struct.Struct("=QII")  # its beginning: until, peer, isn
PORTS = 65_536
SIZE = PORTS * ENTRY.size
"""Bytes of the table: 2,621,440, whole pages of 4, 16 and 64 KiB."""

LIFETIME = 10 * 10**9
"""Nanoseconds that an entry waits for its connection."""

HANDSHAKE = 180 * 10**9
"""Nanoseconds that a taken entry is kept for its connection's next packets.

Longer than Linux repeats a SYN: 127 s with tcp_syn_retries at 6, see tcp(7).
"""

EMPTY = 0
WAITING = 1
TAKEN = 2
_STATE_AT = 16
_LATE_AT = 17

Memory = bytearray | memoryview | mmap.mmap


class _Entry(NamedTuple):
    until: int = 0
    peer: int = 0
    isn: int = 0
    state: int = EMPTY
    late: int = 0
    length: int = 0
    reserved: int = 0
    option: bytes = b""


class PortTable:
    """The table in ``memory``, which must be zero or a table already.

    ``now`` is always `time.monotonic_ns`; ports are in the host's byte order.

    Raises:
        ValueError: the memory has not `SIZE` bytes.
    """

    def __init__(self, memory: Memory) -> None:
        if len(memory) != SIZE:
            raise ValueError(f"{len(memory)} bytes can't be the table: it has {SIZE}")
        self._memory = memory

    def add(self, port: int, option: bytes, now: int, late: bool) -> None:
        """Have the next connection from ``port`` carry ``option``, within `LIFETIME`.

        ``late``: a packet after its SYN may take the entry as well. That is not granted
        over an entry that still waits: two connections from one port may then be under
        way, and a packet after the SYN can't tell which entry is its own.

        Raises:
            ValueError: the port is not 1 to 65535, or the option not 8 or 20 bytes.
        """
        if not 0 < port < PORTS:
            raise ValueError(f"port {port} has no entry: use 1 to {PORTS - 1}")
        if len(option) not in (8, 20):
            raise ValueError(f"{len(option)} bytes are no option of an entry: use 8 or 20")
        before = self._read(port)
        contested = before.state == WAITING and now < before.until
        at = port * ENTRY.size
        self._memory[at + _STATE_AT] = EMPTY
        entry = _Entry(
            until=now + LIFETIME,
            late=int(late and not contested),
            length=len(option),
            option=option,
        )
        ENTRY.pack_into(self._memory, at, *entry)
        self._memory[at + _STATE_AT] = WAITING

    def remove(self, port: int, now: int = 0) -> bool:
        """Empty the port's entry; answer whether there was one that ``now`` is not void."""
        entry = self._read(port)
        self._memory[port * ENTRY.size + _STATE_AT] = EMPTY
        return entry.state != EMPTY and now < entry.until

    def take(self, port: int, peer: int, isn: int | None, now: int) -> bytes:
        """The option for a packet from ``port``, or b"" where this connection has none.

        Args:
            port: the packet's source port.
            peer: whom it goes to, as in the layout.
            isn: its sequence number if it is a SYN, None if it comes later.
            now: see the class.
        """
        entry = self._read(port)
        if now >= entry.until:
            return b""
        if entry.state == WAITING:
            if isn is None and not entry.late:
                return b""
            at = port * ENTRY.size
            _TAKER.pack_into(self._memory, at, now + HANDSHAKE, peer, isn or 0)
            self._memory[at + _STATE_AT] = TAKEN
            if self._read(port).option != entry.option:
                self.remove(port)
                return b""
        elif entry.state != TAKEN:
            return b""
        elif isn is None:
            if peer != entry.peer:
                return b""
        elif peer != entry.peer or isn != entry.isn or isn == 0:
            # Taken with 0, by a later packet: this SYN can't be of that connection. A SYN
            # whose number really is 0 loses its retransmission's option, one in 2**32.
            self.remove(port)
            return b""
        return entry.option[: entry.length]

    def expect_late(self) -> None:
        """Let readers know that entries may be stored after their SYN has left. Stays so."""
        self._memory[_LATE_AT] = 1

    def count(self, now: int) -> int:
        """How many entries wait for their connection. Walks the whole table."""
        return sum(
            entry[3] == WAITING and now < entry[0] for entry in ENTRY.iter_unpack(self._memory)
        )

    def _read(self, port: int) -> _Entry:
        at = port * ENTRY.size
        fields = ENTRY.unpack_from(self._memory, at)
        if fields != ENTRY.unpack_from(self._memory, at):
            return _Entry()
        return _Entry._make(fields)
