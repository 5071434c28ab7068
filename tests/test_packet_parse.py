# SPDX-License-Identifier: Apache-2.0
"""packet.py: what a packet is read as, and all that is refused."""

import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting

from cloud_toa.errors import ToaError
from cloud_toa.option import encode
from cloud_toa.packet import (
    ACK,
    FIN,
    NoRoomError,
    Packet,
    PacketError,
    checksums_valid,
    insert,
)
from tests.clients import CLIENT_V4
from tests.segments import TIMESTAMPS, each_builder, tcp, v4, v4_options, v6, v6_extended


@each_builder
def test_addresses_ports_and_flags(build: Callable[[bytes], bytes]) -> None:
    packet = Packet.parse(build(tcp(TIMESTAMPS, b"hello", flags="FA")))
    net = "10.9.0." if packet.version == 4 else "2001:db8::"
    assert packet.source == (ip_address(f"{net}1"), 40000)
    assert packet.destination == (ip_address(f"{net}2"), 443)
    assert packet.flags == FIN | ACK
    assert packet.options == TIMESTAMPS
    assert packet.data[packet.payload :] == b"hello"
    assert packet.length == len(packet.data)


@each_builder
def test_what_the_link_layer_padded_is_cut_off(build: Callable[[bytes], bytes]) -> None:
    original = build(tcp())
    assert Packet.parse(original + b"\0" * 6).data == original
    assert insert(Packet.parse(original + b"\0" * 6), encode(CLIENT_V4)) == insert(
        Packet.parse(original), encode(CLIENT_V4)
    )


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


V4 = v4(tcp(TIMESTAMPS, b"hello"))
V6 = v6(tcp(TIMESTAMPS, b"hello"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IPv4 or IPv6 packet"),
        (b"\x55" * 60, "not an IPv4 or IPv6 packet"),
        (V4[:19], "the IPv4 header is cut short"),
        (V6[:39], "the IPv6 header is cut short"),
        (V4[:-1], "the IP header says 57 bytes, the packet has 56"),
        (V6[:-1], "the IP header says 77 bytes, the packet has 76"),
        (changed(V4, 2, b"\xff\xff"), "the IP header says 65535 bytes, the packet has 57"),
        (changed(V6, 4, b"\xff\xff"), "the IP header says 65575 bytes, the packet has 77"),
        (changed(V4, 0, b"\x44"), "the IPv4 header's lengths contradict each other"),
        (changed(V4, 0, b"\x4f"), "the IPv4 header's lengths contradict each other"),
        (changed(V4, 2, b"\0\x13"), "the IPv4 header's lengths contradict each other"),
        (changed(V4, 2, b"\0\0"), "the IPv4 header's lengths contradict each other"),
        (changed(V4, 2, b"\0\x27"), "the TCP header is cut short"),
        (changed(V4, 2, b"\0\x33"), "the TCP data offset points outside the packet"),
        (changed(V6, 4, b"\0\x13"), "the TCP header is cut short"),
        (changed(V6, 4, b"\0\0"), "the TCP header is cut short"),
        (changed(V4, 32, b"\x40"), "the TCP data offset points outside the packet"),
        (changed(V4, 32, b"\x00"), "the TCP data offset points outside the packet"),
        (changed(V4, 32, b"\xf0"), "the TCP data offset points outside the packet"),
        (changed(V6, 52, b"\x40"), "the TCP data offset points outside the packet"),
        (v4(tcp(), 17), "IP protocol 17 is not TCP"),
        (v6(tcp(), 17), "IP protocol 17 is not TCP"),
        (changed(V6, 6, b"\x3b"), "IP protocol 59 is not TCP"),
        (changed(V6, 6, b"\0"), "IP protocol 156 is not TCP"),
        (changed(V6, 6, b"\0")[:47], "an IPv6 extension header is cut short"),
        (v4(tcp(), flags="MF"), "a fragment: it holds only a part of the TCP segment"),
        (v4(tcp(), frag=1), "a fragment: it holds only a part of the TCP segment"),
        (v4(tcp(), frag=0x1FFF), "a fragment: it holds only a part of the TCP segment"),
        (
            v6(tcp(), extensions=(IPv6ExtHdrFragment(m=1),)),
            "a fragment: it holds only a part of the TCP segment",
        ),
        (
            v6(tcp(), extensions=(IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment(offset=3))),
            "a fragment: it holds only a part of the TCP segment",
        ),
        (
            v6(tcp(), extensions=(IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=1),)),
            "an IPv6 routing header with segments left",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(data: bytes, message: str) -> None:
    for work in (Packet.parse, checksums_valid):
        with pytest.raises(PacketError) as refused:
            work(data)
        assert str(refused.value) == message
        assert isinstance(refused.value, ToaError)


def test_dont_fragment_is_no_fragment() -> None:
    assert Packet.parse(v4(tcp(), flags="DF")).options == b""


@each_builder
def test_a_capture_may_be_cut_behind_the_tcp_header(build: Callable[[bytes], bytes]) -> None:
    whole = build(tcp(TIMESTAMPS, b"hello"))
    payload = Packet.parse(whole).payload
    packet = Packet.parse(whole[:payload], cut=True)
    assert packet.options == TIMESTAMPS
    assert packet.length == len(whole) == len(packet.data) + 5
    for end in range(payload):
        with pytest.raises(PacketError):
            Packet.parse(whole[:end], cut=True)


# Random bytes seldom look like IP: begin like it, or change a packet in a few places.
looks_like_ip = st.one_of(
    st.binary(max_size=100),
    st.binary(min_size=20, max_size=100).map(lambda data: b"\x45" + data[1:]),
    st.binary(min_size=40, max_size=100).map(
        lambda data: b"\x60" + data[1:4] + struct.pack(">H", len(data) - 40) + data[6:]
    ),
    st.builds(
        lambda data, changes: bytes(changes.get(at, byte) for at, byte in enumerate(data)),
        st.sampled_from([V4, V6, v4_options(tcp()), v6_extended(tcp())]),
        st.dictionaries(st.integers(0, 56), st.integers(0, 255), max_size=4),
    ),
)


@given(looks_like_ip, st.booleans())
def test_any_bytes_are_a_packet_or_a_packet_error(data: bytes, cut: bool) -> None:
    try:
        packet = Packet.parse(data, cut)
    except PacketError:
        return
    assert packet.data == data[: packet.length]
    assert 20 <= packet.tcp + 20 <= packet.payload <= len(packet.data)
    assert len(packet.options) <= 40
    if not cut:
        try:
            sent = insert(Packet.parse(data), encode(CLIENT_V4))
        except NoRoomError:
            return
        assert checksums_valid(sent)
        assert Packet.parse(sent).data[packet.payload + 8 :] == packet.data[packet.payload :]
