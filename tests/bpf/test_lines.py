# SPDX-License-Identifier: Apache-2.0
"""control.bpf.c reads lines as session.py does, or leaves them to it."""

import mmap
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.bpf.lines import Lines
from cloud_toa.control import Session
from cloud_toa.option import plain, usable
from cloud_toa.ports import ENTRY, SIZE, PortTable

KINDS = (200, 253)
USUAL = [
    b"add:1:192.0.2.1:1\n",
    b"add:65535:255.255.255.254:65535\r\n",
    b"add:40001:[2001:db8::7]:1234\n",
    b"add:40001:[1111:2222:3333:4444:5555:6666:7777:8888]:65535\r\n",
    b"add:40001:[2001:DB8::]:80\n",
    b"add:40001:[::1:2:3]:80\n",
    b"add:40001:[1:2:3:4:5:6:7::]:80\n",
    b"add:40001:[::ffff:cb00:7107]:80\n",
]
numbers = st.integers(0, 70_000).map(str) | st.sampled_from(["", "01", "+1", "0x1", "1 "])
addresses = (
    st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip))
    | st.lists(st.sampled_from(["", "0", "1", "ffff", "00000", "g"]), min_size=1, max_size=10).map(
        lambda words: f"[{':'.join(words)}]"
    )
    | st.lists(st.sampled_from(["", "0", "1", "255", "256", "01"]), min_size=3, max_size=5).map(
        ".".join
    )
)


class Peer:
    """A peer that waits for no answer, and what came of its lines."""

    def __init__(self) -> None:
        self._lines = Lines(KINDS)
        self._memory = mmap.mmap(self._lines.ports.number, SIZE)
        self._here, self._there = socket.socketpair()
        self._there.setblocking(False)
        assert self._lines.join(self._there.fileno()) == (self._place(), b"")

    def _place(self) -> int:
        (place,) = set(range(1024)) - self._lines._places
        return place

    def close(self) -> None:
        self._here.close()
        self._there.close()
        self._memory.close()

    def executed(self, line: bytes) -> bool:
        """Whether the kernel has; then with the outcome that the process would have had."""
        before = self._lines.executed
        self._here.sendall(line)
        try:
            assert self._there.recv(8192) == line
        except BlockingIOError:
            memory = bytearray(SIZE)
            counters = {"added": 0, "removed": 0, "refused": 0}
            session = Session(
                PortTable(memory), KINDS, 0, log=lambda _: None, counters=counters, now=lambda: 0
            )
            session.receive(line)
            assert counters == {"added": 1, "removed": 0, "refused": 0}
            (port,) = [at // ENTRY.size for at in range(0, SIZE, ENTRY.size) if memory[at + 46]]
            entry = slice(port * ENTRY.size + 46, (port + 1) * ENTRY.size)
            assert self._memory[entry] == memory[entry]
            self._memory[port * ENTRY.size : (port + 1) * ENTRY.size] = bytes(ENTRY.size)
            assert self._lines.executed == before + 1
            return True
        assert self._lines.executed == before
        return False


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.mark.parametrize("line", USUAL)
def test_usual_lines_are_executed(peer: Peer, line: bytes) -> None:
    assert peer.executed(line)


@pytest.mark.parametrize(
    "line",
    [line[:-1] for line in USUAL]
    + [line + line for line in USUAL]
    + [b"hello:2\n", b"del:1\n", b"quit:0\n", b"\n", b"add:\n", b"add", b"x" * 5000]
    + [b"add:1:[::ffff:192.0.2.1]:1\n", b"add:1:[fe80::1%1]:1\n", b"add:1:224.0.0.1:1\n"],
)
def test_others_are_left_to_the_process(peer: Peer, line: bytes) -> None:
    assert not peer.executed(line)


@given(numbers, addresses, numbers, st.sampled_from(["\n", "\r\n", "", "\r", " \n"]))
def test_any_line(peer: Peer, port: str, host: str, number: str, ending: str) -> None:
    peer.executed(f"add:{port}:{host}:{number}{ending}".encode())


@given(st.ip_addresses(), st.integers(1, 65535), st.integers(1, 65535))
def test_any_client(peer: Peer, ip: IPv4Address | IPv6Address, port: int, number: int) -> None:
    host = f"[{ip}]" if ip.version == 6 else str(ip)
    executed = peer.executed(f"add:{port}:{host}:{number}\n".encode())
    mapped = ip.version == 6 and "." in host
    assert executed == (usable(plain(ip)) and not mapped)
