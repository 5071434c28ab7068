# SPDX-License-Identifier: Apache-2.0
"""segment.py and usual.py against packet.py, whose sums are over the whole packet."""

import struct
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cloud_toa.nfqueue.segment import LeftAloneError, NoRoomError
from cloud_toa.option import Client, encode
from cloud_toa.packet import ACK, PSH, SYN, Packet, checksums_valid, insert
from tests.clients import CLIENT_V4, CLIENT_V6
from tests.nfqueue.writing import write
from tests.segments import BUILDERS, TIMESTAMPS, each_builder, tcp, v4, v6, v6_extended

Build = Callable[[bytes], bytes]
FAST: list[Build] = [v4, v6]

relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
builders = st.sampled_from(BUILDERS)
words_of_options = st.integers(0, 10).flatmap(
    lambda words: st.binary(min_size=words * 4, max_size=words * 4)
)
named_options = st.sampled_from([b"", encode(CLIENT_V4), encode(CLIENT_V6)])


def own_option(data: bytes, kind: int = 254) -> bytes:
    return encode(Client(*Packet.parse(data).source), kind, kind)


@relaxed
@given(
    build=builders,
    options=words_of_options,
    payload=st.integers(0, 3000),
    flags=st.sampled_from([SYN, ACK, ACK | PSH]),
    port=st.integers(1, 65535).filter(lambda port: port not in (0xF989, 0xE2D4)),
    kind=st.sampled_from([200, 252, 253, 254]),
    named=named_options,
    before=st.integers(0, 9),
    seed=st.binary(max_size=8),
)
@example(v4, b"", 0, SYN, 40000, 254, b"", 0, b"")
@example(v6, b"\1" * 20, 1, SYN, 40000, 254, b"", 3, b"\xff")
@example(v4, TIMESTAMPS, 3000, ACK, 65535, 254, encode(CLIENT_V6), 1, b"\xff\xff")
@example(v6_extended, b"", 1, ACK, 40000, 254, encode(CLIENT_V4), 0, b"")
def test_the_same_as_packet_insert(
    build: Build,
    options: bytes,
    payload: int,
    flags: int,
    port: int,
    kind: int,
    named: bytes,
    before: int,
    seed: bytes,
) -> None:
    body = (seed * (payload // max(len(seed), 1) + 1))[:payload].ljust(payload, b"\xa5")
    segment = bytearray(tcp(options, body, flags=flags, seq=2**32 - 1, urgptr=7))
    segment[:2] = port.to_bytes(2, "big")
    data = build(bytes(segment))
    option = named or own_option(data, kind)
    if len(options) + len(option) > 40:
        with pytest.raises(NoRoomError):
            write(data, named, (kind, kind), before=before)
        return
    written = write(data, named, (kind, kind), before=before)
    assert written == insert(Packet.parse(data), option)
    assert checksums_valid(written)


@pytest.mark.parametrize("length", range(0, 41, 4))
@each_builder
def test_room_in_the_header(build: Build, length: int) -> None:
    data = build(tcp(b"\x01" * length))
    for option in (encode(CLIENT_V4), encode(CLIENT_V6)):
        if length + len(option) <= 40:
            assert write(data, option) == insert(Packet.parse(data), option)
        else:
            with pytest.raises(NoRoomError):
                write(data, option)


@pytest.mark.parametrize(("build", "headers", "counted"), [(v4, 40, 65535), (v6, 60, 65575)])
def test_room_in_the_length_field(build: Build, headers: int, counted: int) -> None:
    fits = build(tcp(payload=b"x" * (counted - headers - 8)))
    assert len(write(fits, encode(CLIENT_V4))) == counted
    with pytest.raises(NoRoomError):
        write(fits, encode(CLIENT_V6))


@pytest.mark.parametrize("mtu", [1280, 1500, 9000])
@each_builder
def test_room_in_the_path(build: Build, mtu: int) -> None:
    headers = len(build(tcp(TIMESTAMPS)))
    asked = []

    def path_mtu(address: bytes) -> int:
        asked.append(address)
        return mtu

    option = len(own_option(build(tcp())))
    fits = build(tcp(TIMESTAMPS, b"x" * (mtu - headers - option)))
    assert len(write(fits, path_mtu=path_mtu)) == mtu
    longer = build(tcp(TIMESTAMPS, b"x" * (mtu - headers - option + 1)))
    with pytest.raises(NoRoomError):
        write(longer, path_mtu=path_mtu)
    destination = Packet.parse(fits).destination[0]
    assert {ip_address(address) for address in asked} == {destination}


@pytest.mark.parametrize("build", FAST)
def test_a_small_packet_fits_every_path(build: Build) -> None:
    def path_mtu(address: bytes) -> int:
        raise AssertionError(address)

    data = build(tcp(TIMESTAMPS, b"GET / HTTP/1.0\r\n\r\n"))
    assert write(data, path_mtu=path_mtu) == insert(Packet.parse(data), own_option(data))


FASTOPEN = (("10.9.0.1", 0xF989), ("2001:db8::1", 0xF989))
SMC = (("195.217.0.1", 0xE2D4), ("c3d9::1", 0xE2D4))
NEITHER = (("195.216.0.1", 0xE2D4), ("10.9.0.1", 0xF988), ("c3d8::1", 0xE2D4), ("195.217.0.1", 1))


@pytest.mark.parametrize("client", [*FASTOPEN, *SMC, *NEITHER], ids=str)
@pytest.mark.parametrize("flags", [SYN, SYN | ACK, ACK], ids=["SYN", "SYN-ACK", "ACK"])
@pytest.mark.parametrize("kind", [253, 254])
@each_builder
def test_what_linux_reads_as_its_own(
    build: Build, kind: int, flags: int, client: tuple[str, int]
) -> None:
    data = build(tcp(flags=flags))
    option = encode(Client(ip_address(client[0]), client[1]), kind, kind)
    if kind == 254 and flags & SYN and client not in NEITHER:
        with pytest.raises(LeftAloneError):
            write(data, option, (kind, kind))
    else:
        assert write(data, option, (kind, kind)) == insert(Packet.parse(data), option)


@pytest.mark.parametrize("build", FAST)
def test_the_source_port_alone_makes_a_magic_number(build: Build) -> None:
    segment = bytearray(tcp(flags=SYN))
    segment[:2] = b"\xf9\x89"
    data = build(bytes(segment))
    with pytest.raises(LeftAloneError):
        write(data)
    assert write(data, kinds=(200, 200)) == insert(Packet.parse(data), own_option(data, 200))


FRAGMENT_HEADER = bytes((6, 0, 0, 1, 0, 0, 0, 9))


@pytest.mark.parametrize(
    "data",
    [
        v4(tcp(), flags="MF"),
        v4(tcp(), frag=3),
        v4(tcp(), protocol=17),
        v6(FRAGMENT_HEADER + tcp(), protocol=44),
        v6(tcp(), protocol=17),
        v6(tcp(), protocol=58),
        v4(tcp())[:39],
        v6(tcp())[:59],
        v4(tcp(payload=b"cut"))[:-1],
        v6(tcp(payload=b"cut"))[:-1],
        b"\x55" + v4(tcp())[1:],
        b"\x00" * 60,
        b"\x45",
        b"\x60",
    ],
    ids=lambda data: data[:8].hex(),
)
@pytest.mark.parametrize("named", [b"", encode(CLIENT_V4), encode(CLIENT_V6)], ids=len)
def test_left_alone(data: bytes, named: bytes) -> None:
    with pytest.raises(LeftAloneError):
        write(data, named)


def test_what_a_link_padded_the_packet_with_is_cut_off() -> None:
    data = v4(tcp())
    assert write(data + bytes(6)) == insert(Packet.parse(data), own_option(data))


def mutated() -> st.SearchStrategy[bytes]:
    """Packets of which some bytes are anything."""
    changes = st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=4)
    return st.builds(_changed, builders, words_of_options, st.binary(max_size=30), changes)


def _changed(build: Build, options: bytes, payload: bytes, changes: list[tuple[int, int]]) -> bytes:
    data = bytearray(build(tcp(options, payload)))
    for at, byte in changes:
        data[at % len(data)] = byte
    return bytes(data)


@settings(max_examples=2000, deadline=None)
@given(st.binary(min_size=0, max_size=120) | mutated(), named_options)
def test_any_bytes_are_written_or_refused(data: bytes, named: bytes) -> None:
    try:
        written = write(data, named)
    except (NoRoomError, LeftAloneError):
        return
    assert len(written) > 40
    assert struct.unpack_from(">B", written)[0] >> 4 in (4, 6)
