# SPDX-License-Identifier: Apache-2.0
"""ports.py: the layout byte for byte, and who may take an entry."""

import struct
from typing import Any

import pytest

from cloud_toa.option import encode
from cloud_toa.ports import HANDSHAKE, LIFETIME, SIZE, PortTable
from tests.clients import CLIENT_V4, CLIENT_V6

V4 = encode(CLIENT_V4)
V6 = encode(CLIENT_V6)
OTHER = encode(CLIENT_V4._replace(port=1))
PORT, PEER, ISN, NOW = 40001, 0xDEADBEEF, 0xCAFEF00D, 5 * 10**18


@pytest.fixture
def memory() -> bytearray:
    return bytearray(SIZE)


@pytest.fixture
def table(memory: bytearray) -> PortTable:
    return PortTable(memory)


def entry(memory: bytearray, port: int = PORT) -> tuple[Any, ...]:
    """The contract, written out a second time."""
    assert len(memory) == 65536 * 72
    return struct.unpack("=QQQIIIIIBBBB20s4x", memory[port * 72 : port * 72 + 72])


def ended(memory: bytearray, now: int, port: int = PORT) -> None:
    """What programs in the kernel note at a connection's end."""
    struct.pack_into("=Q", memory, port * 72 + 16, now)


ANY = 2**32 - 1
UNSEEN = 10 * 10**9


def test_layout_of_a_waiting_entry(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V4, NOW, late=False)
    rest = (1, 0, 8, 0, V4 + bytes(12))
    assert entry(memory) == (NOW + 10 * 10**9, 0, 0, 0, ANY, 0, 0, 0, *rest)
    table.add(PORT + 1, V6, NOW, late=True)
    assert entry(memory, PORT + 1) == (NOW + LIFETIME, 0, 0, 0, 0, 0, 0, 0, 1, 0, 20, 0, V6)
    assert not any(memory[: PORT * 72])
    assert not any(memory[PORT * 72 + 144 :])


def test_layout_of_a_taken_entry(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V6, NOW, late=False)
    assert table.take(PORT, PEER, ISN, NOW + 1) == V6
    until = NOW + 1 + 180 * 10**9
    assert entry(memory) == (until, 0, 0, 0, ANY, 0, PEER, ISN, 2, 0, 20, 0, V6)
    table.add(PORT + 1, V6, NOW, late=True)
    assert table.take(PORT + 1, PEER, ISN, NOW + 1) == V6
    shown = (until, NOW + 1, NOW + 1 + UNSEEN, 0, 0, 0, PEER, ISN, 2, 0, 20, 0, V6)
    assert entry(memory, PORT + 1) == shown


def test_layout_after_a_syn_without_a_client(table: PortTable, memory: bytearray) -> None:
    for number in (1, 2):
        assert table.take(PORT, PEER, ISN + number, NOW) == b""
        began = (0, NOW, NOW + UNSEEN, number, 0, 0, PEER, ISN + number)
        assert entry(memory) == (*began, 0, 0, 0, 0, bytes(20))
    assert table.take(PORT, PEER, ISN + 2, NOW + 1) == b""  # again
    assert entry(memory)[1:4] == (NOW, NOW + UNSEEN, 2)


def test_entry_0_says_whether_late_is_to_be_expected(table: PortTable, memory: bytearray) -> None:
    table.expect_late()
    table.expect_late()
    assert memory[45] == 1
    assert sum(memory) == 1


def test_nothing_of_an_entry_is_left_in_the_next(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V6, NOW, late=False)
    table.take(PORT, PEER, ISN, NOW)
    table.add(PORT, V4, NOW, late=False)
    shown = (NOW + LIFETIME, 0, 0, 0, ANY, 0, PEER, ISN, 1, 0, 8, 0, V4 + bytes(12))
    assert entry(memory) == shown


@pytest.mark.parametrize("port", [1, 65535])
def test_first_and_last_port(table: PortTable, port: int) -> None:
    table.add(port, V4, NOW, late=False)
    assert table.take(port, PEER, ISN, NOW) == V4


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_no_entry_for_what_is_no_port(table: PortTable, memory: bytearray, port: int) -> None:
    with pytest.raises(ValueError, match=f"port {port} has no entry: use 1 to 65535"):
        table.add(port, V4, NOW, late=False)
    assert not any(memory)


@pytest.mark.parametrize("length", [0, 7, 9, 19, 21])
def test_no_entry_for_what_is_no_option(table: PortTable, length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes are no option"):
        table.add(PORT, bytes(length), NOW, late=False)


@pytest.mark.parametrize("size", [0, SIZE - 1, SIZE + 1])
def test_memory_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes can't be the table"):
        PortTable(bytearray(size))


class TestSyn:
    """A SYN takes an entry, and is the only one that finds it again."""

    def test_its_retransmissions_and_later_packets_find_it_again(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=False)
        for _ in range(3):
            assert table.take(PORT, PEER, ISN, NOW) == V4
            assert table.take(PORT, PEER, None, NOW) == V4

    @pytest.mark.parametrize(("peer", "isn"), [(PEER, ISN + 1), (PEER + 1, ISN), (PEER, 0)])
    def test_another_connections_syn_clears_it(self, table: PortTable, peer: int, isn: int) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.take(PORT, PEER, ISN, NOW)
        assert table.take(PORT, peer, isn, NOW) == b""
        assert table.take(PORT, PEER, ISN, NOW) == b""
        assert table.take(PORT, PEER, None, NOW) == b""

    def test_another_connections_later_packet_gets_nothing(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.take(PORT, PEER, ISN, NOW)
        assert table.take(PORT, PEER + 1, None, NOW) == b""
        assert table.take(PORT, PEER, None, NOW) == V4

    def test_without_an_entry(self, table: PortTable) -> None:
        assert table.take(PORT, PEER, ISN, NOW) == b""

    @pytest.mark.parametrize("late", [False, True])
    def test_in_time_and_too_late(self, table: PortTable, late: bool) -> None:
        table.add(PORT, V4, NOW, late=late)
        assert table.take(PORT, PEER, ISN + 1, NOW + LIFETIME) == b""
        assert table.take(PORT, PEER, None, NOW + LIFETIME) == b""
        table.add(PORT, V4, NOW, late=False)
        taken = NOW + LIFETIME - 1
        assert table.take(PORT, PEER, ISN, taken) == V4
        assert table.take(PORT, PEER, ISN, taken + HANDSHAKE - 1) == V4
        assert table.take(PORT, PEER, ISN, taken + HANDSHAKE) == b""
        assert table.take(PORT, PEER, None, taken + HANDSHAKE) == b""

    def test_with_number_0(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=False)
        for isn in (0, None, 0):
            assert table.take(PORT, PEER, isn, NOW) == V4

    @pytest.mark.parametrize("late", [False, True])
    def test_again_does_not_take_what_came_after_it(self, table: PortTable, late: bool) -> None:
        """Neither where it had a client nor where it had none: what waits is another's."""
        table.add(PORT, OTHER, NOW, late=late)
        table.take(PORT, PEER, ISN, NOW)
        table.remove(PORT)
        table.add(PORT, V4, NOW + UNSEEN + 1, late=late, written=(NOW + UNSEEN + 1,) * 2)
        assert table.take(PORT, PEER, ISN, NOW + UNSEEN + 1) == b""
        assert table.take(PORT, PEER, ISN + 1, NOW + UNSEEN + 1) == V4


class TestNoAnswer:
    """Entries whose peer waits for no answer: whose they are."""

    def test_the_next_syn(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        assert table.take(PORT, PEER, None, NOW) == b""
        assert table.take(PORT, PEER, ISN, NOW) == V4

    @pytest.mark.parametrize("isn", [None, ISN])
    def test_a_connection_that_has_begun(self, table: PortTable, isn: int | None) -> None:
        """Its later packets, and its SYN if that is sent again; no other's."""
        table.take(PORT, PEER, ISN, NOW)
        table.add(PORT, V4, NOW + 2, late=True, written=(NOW - 1, NOW + 1))
        assert table.take(PORT, PEER + 1, None, NOW + 3) == b""
        for _ in range(2):
            assert table.take(PORT, PEER, isn, NOW + 3) == V4
        assert table.take(PORT, PEER, None, NOW + 3) == V4

    @pytest.mark.parametrize("seen", [True, False])
    def test_never_a_later_syn(self, table: PortTable, memory: bytearray, seen: bool) -> None:
        """Whether its end was seen or not."""
        table.take(PORT, PEER, ISN, NOW)
        if seen:
            ended(memory, NOW + 2)
        table.add(PORT, V4, NOW + 3, late=True, written=(NOW + 1, NOW + 2))
        assert table.take(PORT, PEER, ISN + 1, NOW + 4) == b""
        assert table.take(PORT, PEER, None, NOW + 4) == b""

    def test_one_that_began_between_two_looks(
        self, table: PortTable, memory: bytearray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = PortTable._store

        def syn_meanwhile(self: PortTable, *arguments: Any, **more: Any) -> None:
            monkeypatch.undo()
            table.take(PORT, PEER, ISN, NOW)
            store(self, *arguments, **more)

        monkeypatch.setattr(PortTable, "_store", syn_meanwhile)
        table.add(PORT, V4, NOW, late=True, written=(NOW, NOW))
        assert table.take(PORT, PEER, ISN + 1, NOW) == b""
        ended(memory, NOW + 1)
        ended(memory, NOW + 1)
        table.add(PORT, OTHER, NOW + 2, late=True, written=(NOW + 2, NOW + 2))
        assert table.take(PORT, PEER, ISN + 2, NOW + 2) == OTHER

    def test_the_port_is_free_again(self, table: PortTable, memory: bytearray) -> None:
        table.take(PORT, PEER, ISN, NOW)
        ended(memory, NOW + 1)
        table.add(PORT, V4, NOW + 4, late=True, written=(NOW + 2, NOW + 3))
        assert table.take(PORT, PEER, ISN + 1, NOW + 4) == V4

    @pytest.mark.parametrize("named", [True, False])
    def test_a_port_in_use(self, table: PortTable, memory: bytearray, named: bool) -> None:
        """`bind` has failed: the entry is for nobody, and who has the port keeps its own."""
        if named:
            table.add(PORT, OTHER, NOW - 1, late=True)
        table.take(PORT, PEER, ISN, NOW)
        ended(memory, 0)
        table.add(PORT, V4, NOW + 2, late=True, written=(NOW + 1, NOW + 1))
        assert table.take(PORT, PEER, None, NOW + 2) == (OTHER if named else b"")
        ended(memory, NOW + 3)
        assert table.take(PORT, PEER, ISN + 1, NOW + 3) == b""

    def test_several_of_one_read(self, table: PortTable, memory: bytearray) -> None:
        """Each is for one of those that had none so far: none is left for a later one."""
        for number in (1, 2):
            table.take(PORT, PEER, ISN + number, NOW + number)
            ended(memory, NOW + number)
        for option in (V4, OTHER):
            table.add(PORT, option, NOW + 4, late=True, written=(NOW, NOW + 3))
        assert table.take(PORT, PEER, ISN + 3, NOW + 5) == b""

    def test_which_of_two_clients_that_are_named_at_once(self, table: PortTable) -> None:
        """One of the two has the port, and nobody knows which."""
        for option in (V4, OTHER, OTHER):
            table.add(PORT, option, NOW, late=True)
        assert table.take(PORT, PEER, ISN, NOW) == b""

    @pytest.mark.parametrize(("option", "pause"), [(V4, 0), (OTHER, 10**9)])
    def test_the_same_client_or_later(self, table: PortTable, option: bytes, pause: int) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.add(PORT, option, NOW + pause, late=True)
        assert table.take(PORT, PEER, ISN, NOW + pause) == option


class TestReplacement:
    """By a peer that waits for its answer: the last one counts."""

    @pytest.mark.parametrize("before", [True, False])
    def test_the_last_add_counts(self, table: PortTable, before: bool) -> None:
        table.add(PORT, V4, NOW, late=before)
        table.add(PORT, OTHER, NOW, late=False)
        assert table.take(PORT, PEER, None, NOW) == b""
        assert table.take(PORT, PEER, ISN, NOW) == OTHER

    def test_of_a_taken_entry(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.take(PORT, PEER, ISN, NOW)
        table.add(PORT, OTHER, NOW, late=False)
        assert table.take(PORT, PEER, ISN + 1, NOW) == OTHER
        assert table.take(PORT, PEER, ISN, NOW) == b""

    def test_after_a_connection_without_one(self, table: PortTable) -> None:
        table.take(PORT, PEER, ISN, NOW)
        table.add(PORT, OTHER, NOW, late=False)
        assert table.take(PORT, PEER, ISN + 1, NOW) == OTHER


def test_remove(table: PortTable) -> None:
    assert not table.remove(PORT)
    table.add(PORT, V4, NOW, late=False)
    assert table.remove(PORT, NOW)
    assert not table.remove(PORT, NOW)
    assert table.take(PORT, PEER, ISN, NOW) == b""
    table.add(PORT, V4, NOW, late=False)
    table.take(PORT, PEER, ISN + 1, NOW)
    assert table.remove(PORT, NOW)
    table.add(PORT, V4, NOW, late=False)
    assert not table.remove(PORT, NOW + LIFETIME)


def test_count_is_of_what_waits(table: PortTable) -> None:
    assert table.count(NOW) == 0
    for port in (1, 2, 3, 65535):
        table.add(port, V4, NOW, late=False)
    table.add(4, V4, NOW + 1, late=False)
    assert table.count(NOW) == 5
    table.take(2, PEER, ISN, NOW)
    table.remove(3)
    assert table.count(NOW) == 3
    assert table.count(NOW + LIFETIME) == 1


def test_every_port_has_its_place(table: PortTable) -> None:
    for port in range(1, 65536):
        table.add(port, encode(CLIENT_V4._replace(port=port)), NOW, late=False)
    assert table.count(NOW) == 65535
    for port in range(1, 65536):
        assert table.take(port, PEER, ISN, NOW) == encode(CLIENT_V4._replace(port=port))
