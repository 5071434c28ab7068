# SPDX-License-Identifier: Apache-2.0
"""usual.py: which messages it takes; that it says the same as the long way, test_segment asks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_toa.option import encode
from cloud_toa.packet import ACK, FIN, PSH, SYN, Packet, checksum, checksums_valid, insert
from tests.clients import CLIENT_V4
from tests.nfqueue.test_segment import FAST, Build, own_option
from tests.nfqueue.writing import attribute, usual, write
from tests.segments import TIMESTAMPS, tcp, v4, v4_options, v6, v6_extended

SYN_OPTIONS = bytes.fromhex("020405b40402") + TIMESTAMPS[2:] + bytes.fromhex("01030307")


@pytest.mark.parametrize(
    "segment",
    [
        tcp(SYN_OPTIONS, flags=SYN),
        tcp(flags=SYN),
        tcp(TIMESTAMPS, flags=ACK),
        tcp(flags=ACK),
        tcp(TIMESTAMPS, b"GET / HTTP/1.0\r\n\r\n", flags=ACK | PSH),
        tcp(TIMESTAMPS, b"x" * 517, flags=ACK | PSH),
        tcp(TIMESTAMPS, b"x" * 1420, flags=ACK),
        tcp(TIMESTAMPS, b"x" * 8900, flags=ACK),
        tcp(TIMESTAMPS, flags=FIN | ACK),
        tcp(b"\1" * 20, b"last", flags=ACK, urgptr=1),
        tcp(reserved=1, payload=b"accurate ECN", flags=ACK),
    ],
    ids=lambda segment: f"{segment[13]:02x}-{len(segment)}",
)
@pytest.mark.parametrize("build", FAST)
def test_what_a_load_balancer_sends(build: Build, segment: bytes) -> None:
    data = build(segment)
    assert usual(data) == insert(Packet.parse(data), own_option(data)) == write(data)


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("build", FAST)
def test_every_length_is_padded(build: Build, length: int) -> None:
    data = build(tcp(TIMESTAMPS, bytes(range(length))))
    assert usual(data) == insert(Packet.parse(data), own_option(data))


@pytest.mark.parametrize("build", FAST)
def test_the_path_is_asked_for_large_packets_alone(build: Build) -> None:
    least = 552 if build is v4 else 1280
    asked = []

    def path_mtu(address: bytes) -> int:
        asked.append(address)
        return 1500

    headers = len(build(tcp())) + (8 if build is v4 else 20)
    for length in (least, least + 1, 1500, 1501):
        data = build(tcp(payload=b"x" * (length - headers)))
        assert bool(usual(data, path_mtu=path_mtu)) == (length <= 1500)
    assert asked == [Packet.parse(data).destination[0].packed] * 3


@pytest.mark.parametrize(
    "data",
    [
        v4_options(tcp()),
        v6_extended(tcp()),
        v4(tcp(), flags="MF"),
        v4(tcp(), frag=1),
        v4(tcp(), protocol=17),
        v6(tcp(), protocol=17),
        v4(tcp())[:-1],
        v6(tcp())[:-1],
        v4(tcp()) + b"\0",
        v4(tcp(b"\1" * 36)),
        v6(tcp(b"\1" * 24)),
        v4(tcp(payload=b"x" * (65535 - 48))),
        b"\x45",
        b"",
    ],
    ids=lambda data: f"{data[:10].hex()}-{len(data)}",
)
def test_packets_that_it_leaves(data: bytes) -> None:
    assert usual(data) == b""


@pytest.mark.parametrize("build", FAST)
def test_a_header_that_points_outside_the_packet_is_left(build: Build) -> None:
    data = bytearray(build(tcp()))
    data[-8] = 6 << 4
    assert usual(bytes(data)) == b""


@pytest.mark.parametrize("build", FAST)
def test_messages_that_it_leaves(build: Build) -> None:
    data = build(tcp())
    assert usual(data)
    # A mark: the control socket may have named the client.
    assert usual(data, others=attribute(3, b"\x70\xa1\0\0")) == b""
    # Not to be summed up, and the like.
    assert usual(data, others=attribute(14, bytes(4))) == b""
    for kind in (2, 3, 0x301):
        assert usual(data, kind=kind) == b""


@pytest.mark.parametrize("build", FAST)
@pytest.mark.parametrize("port", [0xF989, 0xE2D4])
def test_ports_that_could_make_a_magic_number_are_left(build: Build, port: int) -> None:
    segment = port.to_bytes(2, "big") + tcp(flags=SYN)[2:]
    assert usual(build(segment)) == b""
    assert usual(build(segment), kinds=(200, 200))


def test_kinds_are_by_family() -> None:
    for build, kind in ((v4, 200), (v6, 253)):
        data = build(tcp(TIMESTAMPS))
        assert usual(data, (200, 253)) == insert(Packet.parse(data), own_option(data, kind))
    assert own_option(v4(tcp()), 200)[0] == 200 != encode(CLIENT_V4)[0]


@given(
    build=st.sampled_from(FAST),
    payload=st.binary(max_size=50),
    tcp_error=st.integers(1, 0xFFFE),
    ip_error=st.integers(0, 0xFFFE),
)
def test_wrong_checksums_stay_as_wrong(
    build: Build, payload: bytes, tcp_error: int, ip_error: int
) -> None:
    data = bytearray(build(tcp(b"", payload)))
    right = usual(bytes(data))
    at = Packet.parse(bytes(data)).tcp + 16
    _damage(data, at, tcp_error)
    if build is v4:
        _damage(data, 10, ip_error)
    written = usual(bytes(data))
    assert not checksums_valid(written)
    assert _sum_at(written, at) == (_sum_at(right, at) + tcp_error) % 0xFFFF
    if build is v4:
        assert _sum_at(written, 10) == (_sum_at(right, 10) + ip_error) % 0xFFFF
        assert bool(checksum(written[:20])) == bool(ip_error)


def _damage(data: bytearray, at: int, error: int) -> None:
    data[at : at + 2] = ((_sum_at(bytes(data), at) + error) % 0xFFFF).to_bytes(2, "big")


def _sum_at(data: bytes, at: int) -> int:
    """A checksum; in ones' complement, 0 and 0xffff are one number."""
    return int.from_bytes(data[at : at + 2], "big") % 0xFFFF
