# SPDX-License-Identifier: Apache-2.0
"""ports.py: whatever happens in which order, and readers that look at any time."""

import mmap
import os
import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.option import encode
from cloud_toa.ports import HANDSHAKE, LIFETIME, SIZE, PortTable
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
    MEMORY[:120] = bytes(120)
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


WRITER = """
import mmap, sys
from cloud_toa.ports import SIZE, PortTable
memory = mmap.mmap(int(sys.argv[1]), SIZE)
table = PortTable(memory)
print(flush=True)
while not memory[16]:  # the reader has seen enough
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
                memory[16] = 1
    os.close(fd)
    assert writer.returncode == 0
    assert set(seen) <= {b"", b"a" * 20, b"b" * 20, b"c" * 20}
    assert len(set(seen)) == 4
