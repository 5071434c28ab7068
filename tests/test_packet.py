# SPDX-License-Identifier: Apache-2.0
"""packet.py against scapy, whose headers and checksums are an implementation of their own."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, in4_chksum
from scapy.layers.inet6 import IPv6
from scapy.utils import checksum as scapy_checksum

from cloud_toa.option import Client, decode, encode
from cloud_toa.packet import (
    ACK,
    PSH,
    SYN,
    NoRoomError,
    Packet,
    PacketError,
    checksum,
    checksums_valid,
    insert,
    strip,
)
from tests.clients import CLIENT_V4, CLIENT_V6
from tests.segments import (
    BUILDERS,
    KINDS,
    TIMESTAMPS,
    checksum_v6,
    each_builder,
    tcp,
    v4,
    v6,
    v6_extended,
)

LINUX_SYN = bytes.fromhex("020405b40402080a11223344aabbccdd0103030a")

# Options as hosts write them, which a TOA is not among.
others = st.lists(
    st.sampled_from(
        [b"\x01", b"\x02\x04\x05\xb4", b"\x04\x02", b"\x03\x03\x07", TIMESTAMPS, b"\x4d\x05abc"]
    ),
    max_size=10,
).map(lambda parts: whole_words(b"".join(parts)[:40]))


def whole_words(options: bytes) -> bytes:
    return options + b"\0" * (-len(options) % 4)


builders = st.sampled_from(BUILDERS)


def right_by_scapy(data: bytes) -> bool:
    """Whether scapy finds the lengths and the checksums of a packet right."""
    packet = (IP if data[0] >> 4 == 4 else IPv6)(data)
    layer = packet[TCP].underlayer
    segment = data[len(data) - len(layer.payload) :]
    if IP in packet:
        header = data[: packet.ihl * 4]
        right = packet.len == len(data) and not scapy_checksum(header)
        return right and not in4_chksum(6, layer, segment)
    return packet.plen == len(data) - 40 and not checksum_v6(layer, segment)


relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(
    builders,
    others,
    st.binary(max_size=300),
    st.integers(0, 15),
    st.integers(0, 255),
    st.sampled_from([CLIENT_V4, CLIENT_V6]),
)
@example(v4, LINUX_SYN, b"", 0, SYN, CLIENT_V6)
@example(v6_extended, b"", b"odd", 1, ACK | PSH, CLIENT_V6)
def test_insert_then_strip_gives_the_packet_back(
    build: Callable[[bytes], bytes],
    options: bytes,
    payload: bytes,
    reserved: int,
    flags: int,
    client: Client,
) -> None:
    original = build(tcp(options, payload, reserved, flags=flags, seq=2**32 - 1, urgptr=7))
    option = encode(client)
    if len(options) + len(option) > 40:
        with pytest.raises(NoRoomError) as refused:
            insert(Packet.parse(original), option)
        assert str(refused.value) == f"{len(options)} of 40 option bytes are taken"
        return

    sent = insert(Packet.parse(original), option)

    assert right_by_scapy(sent)
    assert checksums_valid(sent)
    assert len(sent) == len(original) + len(option)
    packet, before = Packet.parse(sent), Packet.parse(original)
    assert packet.options == option + options
    assert decode(packet.options, KINDS).client == client
    assert packet.data[packet.payload :] == payload
    assert (packet.source, packet.destination, packet.flags) == (
        before.source,
        before.destination,
        before.flags,
    )
    assert strip(Packet.parse(sent), KINDS) == original


@relaxed
@given(builders, others, st.binary(max_size=40))
def test_checksums_valid_agrees_with_scapy_on_damage(
    build: Callable[[bytes], bytes], options: bytes, payload: bytes
) -> None:
    original = build(tcp(options, payload))
    assert checksums_valid(original)
    at = Packet.parse(original).tcp + 7  # inside the sequence number
    damaged = original[:at] + bytes((original[at] ^ 0x10,)) + original[at + 1 :]
    assert not checksums_valid(damaged)
    assert not right_by_scapy(damaged)


def test_checksums_valid_looks_at_the_ipv4_header() -> None:
    data = bytearray(v4(tcp()))
    data[8] ^= 1  # time to live
    assert not checksums_valid(bytes(data))


@pytest.mark.parametrize("length", range(0, 41, 4))
@each_builder
def test_room(build: Callable[[bytes], bytes], length: int) -> None:
    original = build(tcp(b"\x01" * length))
    for option in (encode(CLIENT_V4), encode(CLIENT_V6)):
        if length + len(option) <= 40:
            assert len(insert(Packet.parse(original), option)) == len(original) + len(option)
        else:
            with pytest.raises(NoRoomError, match=f"^{length} of 40 option bytes are taken$"):
                insert(Packet.parse(original), option)


@pytest.mark.parametrize(
    ("build", "headers", "counted"), [(v4, 40, 65535), (v6, 60, 40 + 65535)], ids=["v4", "v6"]
)
def test_room_in_the_length_field(
    build: Callable[[bytes], bytes], headers: int, counted: int
) -> None:
    fits = build(tcp(payload=b"x" * (counted - headers - 8)))
    assert len(insert(Packet.parse(fits), encode(CLIENT_V4))) == counted
    with pytest.raises(NoRoomError) as refused:
        insert(Packet.parse(fits), encode(CLIENT_V6))
    assert str(refused.value) == f"the packet would have {counted + 12} bytes"
    assert isinstance(refused.value, PacketError)


def test_an_option_goes_in_by_words() -> None:
    with pytest.raises(ValueError, match=r"^an option goes in by whole 32-bit words$"):
        insert(Packet.parse(v4(tcp())), b"\x1c\x07\x01\x0a\x00\x00\x01")


@each_builder
def test_strip_of_a_packet_without_toa_changes_nothing(build: Callable[[bytes], bytes]) -> None:
    for options in (b"", TIMESTAMPS, b"\xfe\x07" + b"\1" * 6, b"\0" + encode(CLIENT_V4)[:7]):
        original = build(tcp(options))
        assert strip(Packet.parse(original), KINDS) == original


def test_strip_in_the_midst_and_with_an_unusable_address() -> None:
    unusable = bytes.fromhex("fe08000000000000")
    stripped = strip(Packet.parse(v4(tcp(TIMESTAMPS + unusable + b"\1\1\1\0"))), KINDS)
    assert stripped == v4(tcp(TIMESTAMPS + b"\1\1\1\0"))


@each_builder
def test_strip_pads_where_the_option_is_no_whole_words(build: Callable[[bytes], bytes]) -> None:
    client_ip = bytes.fromhex("1c0701cb0071de")
    stripped = strip(Packet.parse(build(tcp(client_ip + b"\0", b"odd"))), KINDS)
    assert stripped == build(tcp(b"\1" * 7 + b"\0", b"odd"))


@given(st.binary(max_size=200))
def test_checksum_is_the_sum_of_rfc_1071(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    assert checksum(data) == folded ^ 0xFFFF
