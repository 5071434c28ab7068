# SPDX-License-Identifier: Apache-2.0
"""packet.py against scapy, whose headers and checksums are an implementation of their own."""

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, IPOption, in4_chksum
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    in6_chksum,
)
from scapy.packet import Packet as Scapy
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from cloud_toa.errors import ToaError
from cloud_toa.option import Client, Kinds, decode, encode
from cloud_toa.packet import (
    ACK,
    FIN,
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

KINDS = Kinds((254,), (254,), (28,))
CLIENT_V4 = Client(ip_address("203.0.113.222"), 37709)
CLIENT_V6 = Client(ip_address("2001:db8::ec99:108d:db5b:5fab"), 52221)
TIMESTAMPS = bytes.fromhex("0101080a11223344aabbccdd")
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


def tcp(options: bytes = b"", payload: bytes = b"", reserved: int = 0, **fields: Any) -> bytes:
    """A segment with these very bytes of options; its checksum is for a builder to write."""
    header = bytearray(bytes(TCP(sport=40000, dport=443, chksum=0, **fields)))
    header[12] = (5 + len(options) // 4) << 4 | reserved
    return bytes(header) + options + payload


def v4(segment: bytes, protocol: int = 6, **fields: Any) -> bytes:
    ip = IP(src="10.9.0.1", dst="10.9.0.2", proto=protocol, **fields)
    return bytes(ip / Raw(summed(segment, in4_chksum(6, ip, segment))))


def v4_options(segment: bytes) -> bytes:
    return v4(segment, options=[IPOption(b"\x94\x04\x00\x00"), IPOption(b"\x01")])


def v6(segment: bytes, protocol: int = 6, extensions: tuple[Scapy, ...] = ()) -> bytes:
    ip = IPv6(src="2001:db8::1", dst="2001:db8::2")
    for extension in extensions:
        ip /= extension
    ip.lastlayer().nh = protocol
    return bytes(ip / Raw(summed(segment, checksum_v6(ip.lastlayer(), segment))))


def v6_extended(segment: bytes) -> bytes:
    padding = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    routing = IPv6ExtHdrRouting(segleft=0, addresses=["2001:db8::3"])
    return v6(segment, extensions=(IPv6ExtHdrHopByHop(), padding, routing))


def checksum_v6(layer: Scapy, segment: bytes) -> int:
    return int(in6_chksum(6, layer, segment))  # type: ignore[no-untyped-call]


def summed(segment: bytes, checksum: int) -> bytes:
    return segment[:16] + struct.pack(">H", checksum) + segment[18:]


BUILDERS = [v4, v4_options, v6, v6_extended]
builders = st.sampled_from(BUILDERS)
each_builder = pytest.mark.parametrize("build", BUILDERS)


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
            insert(original, option)
        assert str(refused.value) == f"{len(options)} of 40 option bytes are taken"
        return

    sent = insert(original, option)

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
    assert strip(sent, KINDS) == original


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
    assert insert(original + b"\0" * 6, encode(CLIENT_V4)) == insert(original, encode(CLIENT_V4))


@pytest.mark.parametrize("length", range(0, 41, 4))
@each_builder
def test_room(build: Callable[[bytes], bytes], length: int) -> None:
    original = build(tcp(b"\x01" * length))
    for option in (encode(CLIENT_V4), encode(CLIENT_V6)):
        if length + len(option) <= 40:
            assert len(insert(original, option)) == len(original) + len(option)
        else:
            with pytest.raises(NoRoomError, match=f"^{length} of 40 option bytes are taken$"):
                insert(original, option)


@pytest.mark.parametrize(
    ("build", "headers", "counted"), [(v4, 40, 65535), (v6, 60, 40 + 65535)], ids=["v4", "v6"]
)
def test_room_in_the_length_field(
    build: Callable[[bytes], bytes], headers: int, counted: int
) -> None:
    fits = build(tcp(payload=b"x" * (counted - headers - 8)))
    assert len(insert(fits, encode(CLIENT_V4))) == counted
    with pytest.raises(NoRoomError) as refused:
        insert(fits, encode(CLIENT_V6))
    assert str(refused.value) == f"the packet would have {counted + 12} bytes"
    assert isinstance(refused.value, PacketError)


def test_an_option_goes_in_by_words() -> None:
    with pytest.raises(ValueError, match=r"^an option goes in by whole 32-bit words$"):
        insert(v4(tcp()), b"\x1c\x07\x01\x0a\x00\x00\x01")


@each_builder
def test_strip_of_a_packet_without_toa_changes_nothing(build: Callable[[bytes], bytes]) -> None:
    for options in (b"", TIMESTAMPS, b"\xfe\x07" + b"\1" * 6, b"\0" + encode(CLIENT_V4)[:7]):
        original = build(tcp(options))
        assert strip(original, KINDS) == original


def test_strip_in_the_midst_and_with_an_unusable_address() -> None:
    unusable = bytes.fromhex("fe08000000000000")
    stripped = strip(v4(tcp(TIMESTAMPS + unusable + b"\1\1\1\0")), KINDS)
    assert stripped == v4(tcp(TIMESTAMPS + b"\1\1\1\0"))


@each_builder
def test_strip_pads_where_the_option_is_no_whole_words(build: Callable[[bytes], bytes]) -> None:
    client_ip = bytes.fromhex("1c0701cb0071de")
    stripped = strip(build(tcp(client_ip + b"\0", b"odd")), KINDS)
    assert stripped == build(tcp(b"\1" * 7 + b"\0", b"odd"))


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
    for work in (
        Packet.parse,
        checksums_valid,
        lambda data: insert(data, encode(CLIENT_V4)),
        lambda data: strip(data, KINDS),
    ):
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
            sent = insert(data, encode(CLIENT_V4))
        except NoRoomError:
            return
        assert checksums_valid(sent)
        assert Packet.parse(sent).data[packet.payload + 8 :] == packet.data[packet.payload :]


@given(st.binary(max_size=200))
def test_checksum_is_the_sum_of_rfc_1071(data: bytes) -> None:
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    folded = total % 0xFFFF or (0xFFFF if total else 0)
    assert checksum(data) == folded ^ 0xFFFF
