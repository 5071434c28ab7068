# SPDX-License-Identifier: Apache-2.0
"""ports.py: whatever happens in which order, and readers that look at any time."""

import mmap
import os
import struct
import subprocess
import sys
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_toa.option import encode
from cloud_toa.ports import ENTRY, HANDSHAKE, LIFETIME, SIZE, PortTable
from tests.clients import CLIENT_V4, CLIENT_V6

V4 = encode(CLIENT_V4)
V6 = encode(CLIENT_V6)
OTHER = encode(CLIENT_V4._replace(port=1))
PORT, PEER, NOW = 40001, 0xDEADBEEF, 5 * 10**18

small = st.integers(1, 2)
actions = st.lists(
    st.tuples(st.just("add"), small, st.sampled_from([V4, V6, OTHER]), st.booleans())
    | st.tuples(st.just("take"), small, small, st.none() | small)
    | st.tuples(st.just("remove"), small, st.none(), st.none())
    | st.tuples(st.just("wait"), st.integers(0, HANDSHAKE), st.none(), st.none()),
    max_size=40,
)
MEMORY = bytearray(SIZE)


@given(actions)
def test_a_client_is_only_for_the_connection_after_its_add(steps: list[tuple[Any, ...]]) -> None:
    """Whatever happens: an option goes to one connection, and is the newest add's."""
    MEMORY[:216] = bytes(216)
    table, now = PortTable(MEMORY), NOW
    newest: dict[int, tuple[bytes, int]] = {}
    owners: dict[int, int] = {}
    for what, first, second, third in steps:
        if what == "add":
            table.add(first, second, now, third)
            newest[first] = second, now
            owners.pop(first, None)
        elif what == "remove":
            table.remove(first)
            newest.pop(first, None)
        elif what == "wait":
            now += first
        elif option := table.take(first, second, third, now):
            assert option == newest[first][0]
            if first not in owners:
                assert now < newest[first][1] + LIFETIME
            assert owners.setdefault(first, second) == second


class World:
    """Peers that wait for no answer, other programs, and whoever executes the peers' lines.

    A port is one connection's at a time, from bind to close. Times go on by a millisecond.
    """

    def __init__(self, exact: bool) -> None:
        MEMORY[:216] = bytes(216)
        self.table, self.now, self.number, self.looked = PortTable(MEMORY), NOW, 0, NOW
        self.exact = exact
        self.unread: list[tuple[int, bytes]] = []
        self.bound: dict[int, tuple[int, bytes]] = {}
        self.begun: set[int] = set()
        self.right = 0

    def step(self, what: str, port: int) -> None:
        self.now += 10**6
        getattr(self, what)(port)

    def client(self, port: int) -> None:
        if port in self.bound and not self.exact:
            return
        self.number += 1
        option = encode(CLIENT_V4._replace(port=self.number))
        self.unread.append((port, option))
        if self.exact:
            self.read(port)
        self.bound.setdefault(port, (self.number, option))

    def other(self, port: int) -> None:
        if port not in self.bound:
            self.number += 1
            self.bound[port] = (self.number, b"")
            self.syn(port)

    def syn(self, port: int) -> None:
        if port in self.bound:
            again = port in self.begun
            self.begun.add(port)
            self.packet(port, syn=True)
            if self.exact and not again:
                self.ends(port, 0)

    def packet(self, port: int, syn: bool = False) -> None:
        if port in self.begun:
            number, option = self.bound[port]
            found = self.table.take(port, PEER, number if syn else None, self.now)
            assert found in (b"", option)
            self.right += bool(found)

    def close(self, port: int) -> None:
        if port in self.begun:
            self.begun.remove(port)
            del self.bound[port]
            if self.exact:
                self.ends(port, self.now)

    def ends(self, port: int, when: int) -> None:
        """What programs in the kernel note, who see a connection's end."""
        struct.pack_into("=Q", MEMORY, port * ENTRY.size + 16, when)

    def read(self, _port: int) -> None:
        since, self.looked = self.looked, self.now
        written = (self.now, self.now) if self.exact else (since, self.now)
        for port, option in self.unread:
            self.table.add(port, option, self.now, late=True, written=written)
        self.unread.clear()


events = st.sampled_from(["client", "client", "other", "syn", "syn", "packet", "close", "read"])


@settings(max_examples=2000)
@given(st.booleans(), st.lists(st.tuples(events, small), max_size=60))
def test_no_connection_has_anothers_client(exact: bool, steps: list[tuple[str, int]]) -> None:
    """Whenever lines are read: at once by the kernel (and `bind` may fail), or any time later."""
    world = World(exact)
    for what, port in steps:
        world.step(what, port)


@given(st.lists(st.sampled_from(["syn", "packet", "read"]), max_size=5))
def test_lines_that_are_executed_at_once_name_every_connection(between: list[str]) -> None:
    """Ports that are used again at once, and by others in between."""
    world = World(exact=True)
    for number in range(1, 5):
        world.step("client", 1)
        world.step("syn", 1)
        for what in between:
            world.step(what, 1)
        assert world.right >= number
        for what in ("close", "other", "close"):
            world.step(what, 1)


WRITER = """
import mmap, sys
from cloud_toa.ports import SIZE, PortTable
memory = mmap.mmap(int(sys.argv[1]), SIZE)
table = PortTable(memory)
print(flush=True)
while not memory[44]:  # the reader has seen enough
    for letter in b"abc":
        table.add(40001, bytes([letter]) * 20, 5 * 10**18, late=False)
"""


def test_another_process_never_sees_half_an_entry() -> None:
    fd = os.memfd_create("ports")
    os.ftruncate(fd, SIZE)
    with mmap.mmap(fd, SIZE) as memory:
        table = PortTable(memory)
        command = [sys.executable, "-c", WRITER, str(fd)]
        with subprocess.Popen(command, pass_fds=[fd], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            try:
                seen = [table.take(PORT, PEER, isn, NOW) for isn in range(1, 100_000)]
            finally:
                memory[44] = 1
    os.close(fd)
    assert writer.returncode == 0
    assert set(seen) <= {b"", b"a" * 20, b"b" * 20, b"c" * 20}
    assert len(set(seen)) == 4
