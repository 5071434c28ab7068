# SPDX-License-Identifier: Apache-2.0
"""Clients by the local TCP port that a load balancer is going to connect from.

The table is memory that several processes share, and programs in the kernel: an eBPF
array map, or a memfd where the kernel has none for us. So its layout is a contract
(ports.h is its twin): 65,536 entries of 72 bytes, index = port, in the host's byte
order unless said; times are nanoseconds of CLOCK_MONOTONIC::

    u64 until       from which on the entry is void
    u64 began       when the last connection from this port began: one without a client, or
                    with one whose peer waits for no answer
    u64 gone        when that ended; 0 while it has not
    u32 begun       how many connections have begun without a client
    u32 judged      `begun` as `add` saw it; all bits set where its peer waits for answers
    u32 settled     how many of them have had an `add`, or will get none
    u32 peer        which connection took the entry or began without one (queue datapath
                    only): CRC-32 as of zlib over the destination's address and port,
                    both in network byte order
    u32 isn         initial sequence number of its SYN
    u8  state       0 empty, 1 waiting, 2 taken, 3 late, 4 contested
    u8  late        of entry 0: 1 once a peer was there that does not wait for an answer
    u8  length      of the option: 8 or 20
    u8  reserved    0
    u8  option[20]  the TCP option as on the wire
    u8  padding[4]

An entry goes waiting → taken, by one connection alone, whose retransmissions and
later packets find it again. Another connection's SYN from that port clears it: the
port was used again without a client, and no client is better than a stale one.
Programs in the kernel need no taken state: they keep the option with the socket and
empty the entry at once.

**A peer that waits for no answer** connects as soon as it has written its line, so its SYN
may be there before the line is executed. The rule is: no entry is for a SYN that came after
the connection that it may be meant for. Connections are noted as they begin and end (`began`,
`gone`), those that found no entry counted (`begun`). `add` knows when, at the earliest, its
line was written, and looks
whether a connection was there at any time from then on:

- None: the entry waits for the next SYN.
- Without a client, and without an `add` so far: the entry is for the first of such. So it is
  for no SYN to come. If it is the last as well, and nothing else is possible, a later packet
  of that connection may still take the entry (late).
- With a client, or an `add` that came too late: if it is still there, `bind` will have failed,
  and the entry is for nobody; else it waits.

Two clients named for one port within `AT_ONCE` are two that were going to connect from it,
of whom one can: for neither (contested).

`add` and a SYN may meet at any moment, and there is no lock. So `add` writes into `judged`
what it saw in `begun`, and a SYN takes an entry only where the two are equal: no connection
has begun without a client since `add` looked.

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

ENTRY = struct.Struct("=QQQIIIIIBBBB20s4x")
_UNTIL = struct.Struct("=Q")
_BEGAN, _BEGAN_AT = struct.Struct("=QQI"), 8  # with `gone` and `begun`
_JUDGED, _JUDGED_AT = struct.Struct("=II"), 28  # with `settled`
_TAKER, _TAKER_AT = struct.Struct("=II"), 36  # peer, isn
PORTS = 65_536
SIZE = PORTS * ENTRY.size
"""Bytes of the table: 4,718,592, whole pages of 4, 16 and 64 KiB."""

LIFETIME = 10 * 10**9
"""Nanoseconds that an entry waits for its connection."""

HANDSHAKE = 180 * 10**9
"""Nanoseconds that a taken entry is kept for its connection's next packets.

Longer than Linux repeats a SYN: 127 s with tcp_syn_retries at 6, see tcp(7). A connection
without a client counts no longer either, should nobody have seen its end.
"""

AT_ONCE = 10**9
"""Nanoseconds within which who named a client, and waits for no answer, has connected."""

UNSEEN = 10 * 10**9
"""Nanoseconds that the queue takes a connection to last, as it is shown no end itself."""

EMPTY = 0
WAITING = 1
TAKEN = 2
LATE = 3
CONTESTED = 4
_STATE_AT = 44
_LATE_AT = 45
_LENGTH_AT = 46
_OPTION_AT = 48

_WHATEVER_BEGAN = 2**32 - 1
"""``judged`` of an entry that was stored before its connection began: there is nothing to judge."""

Memory = bytearray | memoryview | mmap.mmap


class _Entry(NamedTuple):
    until: int = 0
    began: int = 0
    gone: int = 0
    begun: int = 0
    judged: int = 0
    settled: int = 0
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

    def add(
        self,
        port: int,
        option: bytes,
        now: int,
        late: bool,
        written: tuple[int, int] | None = None,
    ) -> None:
        """Have the next connection from ``port`` carry ``option``, within `LIFETIME`.

        Args:
            port: the local port.
            option: as on the wire.
            now: see the class.
            late: whoever adds it does not wait for an answer: see the module for whose it is.
            written: when the line was written, at the earliest and at the latest; None where
                nobody knows, which counts as `LIFETIME` ago to now.

        Raises:
            ValueError: the port is not 1 to 65535, or the option not 8 or 20 bytes.
        """
        if not 0 < port < PORTS:
            raise ValueError(f"port {port} has no entry: use 1 to {PORTS - 1}")
        if len(option) not in (8, 20):
            raise ValueError(f"{len(option)} bytes are no option of an entry: use 8 or 20")
        before = self._read(port)
        if not late:
            self._store(
                port, option, now, state=WAITING, judged=_WHATEVER_BEGAN, settled=before.settled
            )
            return
        since, latest = written or (now - LIFETIME, now)
        state, settled = _meant(before, option, now, since, latest)
        if state == EMPTY and before.state == TAKEN and settled == before.settled:
            return  # who has the port has its own client
        self._store(port, option, now, state=state, judged=before.begun, settled=settled)
        again = self._read(port)
        if again.begun != before.begun:
            # It began while nobody looked. Whom the entry was for has not changed, but that
            # the next SYN is no longer the next: this connection was it.
            settled += state == WAITING
            self._store(port, option, now, state=EMPTY, judged=again.begun, settled=settled)

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
        its_own = peer == entry.peer and isn in (None, entry.isn)
        found = entry.state != EMPTY and now < entry.until
        if found and entry.state == TAKEN and its_own:
            return entry.option[: entry.length]
        if found and _may_take(entry, isn, its_own):
            at = port * ENTRY.size
            _UNTIL.pack_into(self._memory, at, now + HANDSHAKE)
            _TAKER.pack_into(self._memory, at + _TAKER_AT, peer, entry.isn if isn is None else isn)
            if isn is not None and entry.judged != _WHATEVER_BEGAN:
                _BEGAN.pack_into(self._memory, at + _BEGAN_AT, now, now + UNSEEN, entry.begun)
            self._memory[at + _STATE_AT] = TAKEN
            if self._read(port).option == entry.option:
                return entry.option[: entry.length]
            self.remove(port)
        elif isn is not None and not its_own:
            self._begin_without(port, peer, isn, now)
        return b""

    def expect_late(self) -> None:
        """Let readers know that a peer waits for no answer. Stays so."""
        self._memory[_LATE_AT] = 1

    def count(self, now: int) -> int:
        """How many entries wait for their connection. Walks the whole table."""
        return sum(
            entry[8] == WAITING and now < entry[0] for entry in ENTRY.iter_unpack(self._memory)
        )

    def _store(
        self, port: int, option: bytes, now: int, *, state: int, judged: int, settled: int
    ) -> None:
        at = port * ENTRY.size
        self._memory[at + _STATE_AT] = EMPTY
        _UNTIL.pack_into(self._memory, at, now + LIFETIME)
        _JUDGED.pack_into(self._memory, at + _JUDGED_AT, judged, settled)
        self._memory[at + _LENGTH_AT] = len(option)
        self._memory[at + _OPTION_AT : at + _OPTION_AT + 20] = option.ljust(20, b"\0")
        self._memory[at + _STATE_AT] = state

    def _begin_without(self, port: int, peer: int, isn: int, now: int) -> None:
        """A connection has begun without a client."""
        at = port * ENTRY.size
        begun = self._read(port).begun + 1 & _WHATEVER_BEGAN
        _BEGAN.pack_into(self._memory, at + _BEGAN_AT, now, now + UNSEEN, begun)
        _TAKER.pack_into(self._memory, at + _TAKER_AT, peer, isn)
        self._memory[at + _STATE_AT] = EMPTY

    def _read(self, port: int) -> _Entry:
        at = port * ENTRY.size
        fields = ENTRY.unpack_from(self._memory, at)
        if fields != ENTRY.unpack_from(self._memory, at):
            return _Entry()
        return _Entry._make(fields)


def _may_take(entry: _Entry, isn: int | None, its_own: bool) -> bool:
    """Whether a connection may take what nobody has taken yet: see the module."""
    if entry.state == LATE:
        return its_own and entry.judged == entry.begun
    # A SYN that has been seen before left before the entry came, and so is another's.
    fits = entry.judged in (entry.begun, _WHATEVER_BEGAN)
    return entry.state == WAITING and isn is not None and not its_own and fits


def _meant(before: _Entry, option: bytes, now: int, since: int, latest: int) -> tuple[int, int]:
    """Whom an entry is for whose peer waits for no answer: its state, and `settled` then."""
    here = bool(before.began) and (before.gone or before.began + HANDSHAKE) >= since
    if here and before.settled != before.begun:
        sure = before.settled + 1 == before.begun and since <= before.began <= latest
        return LATE if sure else EMPTY, before.settled + 1
    if here and not before.gone:
        return EMPTY, before.begun
    other = (
        before.state == WAITING
        and before.judged == before.begun
        and before.option[: before.length] != option
    )
    # Whoever waits for an answer was told that its client is stored.
    told = before.state == WAITING and before.judged == _WHATEVER_BEGAN and now < before.until
    if told and before.option[: before.length] != option:
        return CONTESTED, before.begun
    contested = before.state == CONTESTED or other
    at_once = now + LIFETIME < before.until + AT_ONCE
    return CONTESTED if contested and at_once else WAITING, before.begun
