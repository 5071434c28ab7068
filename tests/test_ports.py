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
    assert len(memory) == 65536 * 40
    return struct.unpack("=QIIBBBB20s", memory[port * 40 : port * 40 + 40])


def test_layout_of_a_waiting_entry(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V4, NOW, late=False)
    assert entry(memory) == (NOW + 10 * 10**9, 0, 0, 1, 0, 8, 0, V4 + bytes(12))
    table.add(PORT + 1, V6, NOW, late=True)
    assert entry(memory, PORT + 1) == (NOW + 10 * 10**9, 0, 0, 1, 1, 20, 0, V6)
    assert not any(memory[: PORT * 40])
    assert not any(memory[PORT * 40 + 80 :])


def test_layout_of_a_taken_entry(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V6, NOW, late=True)
    assert table.take(PORT, PEER, ISN, NOW + 1) == V6
    assert entry(memory) == (NOW + 1 + 180 * 10**9, PEER, ISN, 2, 1, 20, 0, V6)


def test_layout_of_an_entry_that_a_later_packet_took(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V4, NOW, late=True)
    assert table.take(PORT, PEER, None, NOW) == V4
    assert entry(memory)[1:4] == (PEER, 0, 2)


def test_entry_0_says_whether_late_is_to_be_expected(table: PortTable, memory: bytearray) -> None:
    table.expect_late()
    table.expect_late()
    assert memory[17] == 1
    assert sum(memory) == 1
    assert table.take(0, PEER, ISN, NOW) == b""


def test_nothing_of_an_entry_is_left_in_the_next(table: PortTable, memory: bytearray) -> None:
    table.add(PORT, V6, NOW, late=True)
    table.take(PORT, PEER, ISN, NOW)
    table.add(PORT, V4, NOW, late=False)
    assert entry(memory) == (NOW + LIFETIME, 0, 0, 1, 0, 8, 0, V4 + bytes(12))


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

    def test_in_time_and_too_late(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        assert table.take(PORT, PEER, ISN, NOW + LIFETIME) == b""
        assert table.take(PORT, PEER, None, NOW + LIFETIME) == b""
        taken = NOW + LIFETIME - 1
        assert table.take(PORT, PEER, ISN, taken) == V4
        assert table.take(PORT, PEER, ISN, taken + HANDSHAKE - 1) == V4
        assert table.take(PORT, PEER, ISN, taken + HANDSHAKE) == b""
        assert table.take(PORT, PEER, None, taken + HANDSHAKE) == b""

    def test_with_number_0(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=False)
        assert table.take(PORT, PEER, 0, NOW) == V4
        assert table.take(PORT, PEER, None, NOW) == V4
        # Not told from an entry that a later packet took: rather none than a stale one.
        assert table.take(PORT, PEER, 0, NOW) == b""


class TestLaterPacket:
    """A packet after the SYN takes an entry whose peer could not wait for it."""

    def test_takes_only_what_is_late(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=False)
        assert table.take(PORT, PEER, None, NOW) == b""
        assert table.take(PORT, PEER, ISN, NOW) == V4

    def test_is_found_again(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        assert table.take(PORT, PEER, None, NOW) == V4
        assert table.take(PORT, PEER, None, NOW) == V4
        assert table.take(PORT, PEER + 1, None, NOW) == b""

    @pytest.mark.parametrize("isn", [0, 1, ISN])
    def test_no_syn_can_follow_it(self, table: PortTable, isn: int) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.take(PORT, PEER, None, NOW)
        assert table.take(PORT, PEER, isn, NOW) == b""
        assert table.take(PORT, PEER, None, NOW) == b""

    def test_the_syn_again_after_the_entry_came(self, table: PortTable) -> None:
        assert table.take(PORT, PEER, ISN, NOW) == b""
        table.add(PORT, V4, NOW, late=True)
        assert table.take(PORT, PEER, ISN, NOW) == V4


class TestReplacement:
    def test_the_last_add_counts(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=False)
        table.add(PORT, OTHER, NOW, late=False)
        assert table.take(PORT, PEER, ISN, NOW) == OTHER

    @pytest.mark.parametrize("before", [True, False])
    def test_of_a_waiting_entry_is_for_the_syn_alone(self, table: PortTable, before: bool) -> None:
        table.add(PORT, V4, NOW, late=before)
        for _ in range(2):  # and stays so, however often it is replaced
            table.add(PORT, OTHER, NOW, late=True)
            assert table.take(PORT, PEER, None, NOW) == b""
        assert table.take(PORT, PEER, ISN, NOW) == OTHER

    def test_of_an_expired_entry(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.add(PORT, OTHER, NOW + LIFETIME, late=True)
        assert table.take(PORT, PEER, None, NOW + LIFETIME) == OTHER

    @pytest.mark.parametrize("isn", [None, ISN])
    def test_of_a_taken_entry(self, table: PortTable, isn: int | None) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.take(PORT, PEER, isn, NOW)
        table.add(PORT, OTHER, NOW, late=True)
        assert table.take(PORT, PEER + 1, None, NOW) == OTHER
        assert table.take(PORT, PEER, None, NOW) == b""

    def test_of_a_removed_entry(self, table: PortTable) -> None:
        table.add(PORT, V4, NOW, late=True)
        table.remove(PORT)
        table.add(PORT, OTHER, NOW, late=True)
        assert table.take(PORT, PEER, None, NOW) == OTHER


def test_remove(table: PortTable) -> None:
    assert not table.remove(PORT)
    table.add(PORT, V4, NOW, late=True)
    assert table.remove(PORT, NOW)
    assert not table.remove(PORT, NOW)
    assert table.take(PORT, PEER, ISN, NOW) == b""
    table.add(PORT, V4, NOW, late=True)
    table.take(PORT, PEER, ISN, NOW)
    assert table.remove(PORT, NOW)
    table.add(PORT, V4, NOW, late=True)
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
