# SPDX-License-Identifier: Apache-2.0
"""What a worker makes of a packet: by both of its ways, which must agree.

Messages and verdicts are built and read here by linux/netfilter/nfnetlink_queue.h alone.
"""

import struct

from cloud_toa.nfqueue import segment
from cloud_toa.nfqueue.segment import LeftAloneError, NoRoomError, PathMtu
from cloud_toa.nfqueue.usual import Usual
from cloud_toa.option import usable
from cloud_toa.packet import Packet, checksums_valid

ENDLESS = 1 << 20
NUMBER = 258
ID = b"\x01\x02\x03\x04"
BEHIND = b"\x45" * 200
"""What a former message may have left in the buffer."""


def attribute(kind: int, value: bytes) -> bytes:
    """Padded to 4 bytes, which its length does not say."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(data: bytes, others: bytes = b"", kind: int = 0x300) -> bytes:
    """A packet as the kernel hands it to a worker; ``others`` are attributes that may come too."""
    body = struct.pack("!BBH", 2 if data[:1] < b"\x60" else 10, 0, NUMBER)
    body += attribute(1, ID + struct.pack("!HB", 0x0800, 3))
    body += attribute(6, struct.pack("!I", 7))
    body += others + attribute(10, data)
    # The last attribute's padding is not counted.
    length = 16 + len(body) - -len(data) % 4
    return struct.pack("=IHHII", length, kind, 0, 0, 0) + body


def replaced(verdict: bytes) -> bytes:
    """The packet in a verdict, whose every other part is checked."""
    length, kind, flags, sequence, pid = struct.unpack_from("=IHHII", verdict)
    assert (kind, flags, sequence, pid) == (0x301, 1, 0, 0)
    assert len(verdict) % 4 == 0
    assert length <= len(verdict) < length + 4
    assert verdict[16:20] == struct.pack("!BBH", 0, 0, NUMBER)
    assert verdict[20:32] == attribute(2, struct.pack("!I", 1) + ID)
    size, name = struct.unpack_from("=HH", verdict, 32)
    assert name == 10
    assert 32 + size == length or 32 + (size + 3 & ~3) == length
    assert verdict[32 + size :] == bytes(len(verdict) - 32 - size)
    return verdict[36 : 32 + size]


def usual(
    data: bytes,
    kinds: tuple[int, int] = (254, 254),
    path_mtu: PathMtu = lambda _: ENDLESS,
    before: int = 0,
    others: bytes = b"",
    kind: int = 0x300,
) -> bytes:
    """What is written the short way; empty where that does not take the packet."""
    said = message(data, others, kind)
    memory = bytearray(b"\x60" * before + said + BEHIND)
    kept = bytes(memory)
    verdict = Usual(NUMBER, *kinds, path_mtu).verdict(memory, before)
    assert memory == kept
    return replaced(verdict) if verdict else b""


def write(
    data: bytes,
    named: bytes = b"",
    kinds: tuple[int, int] = (254, 254),
    path_mtu: PathMtu = lambda _: ENDLESS,
    before: int = 0,
) -> bytes:
    """What a worker lets go on instead; raises what `segment` does.

    ``named`` is an option that the control socket gave, else it is the source's own.
    """
    short = b"" if named else usual(data, kinds, path_mtu, before)
    try:
        written = segment.write(segment.parse(data), kinds, path_mtu, named)
    except NoRoomError:
        assert not short
        raise
    except LeftAloneError:
        # The short way does not ask whether a client can have the address: its packets are real.
        if short:
            ip, port = Packet.parse(data).source
            assert not usable(ip) or port == 0
        raise
    # Nor does it mend checksums, which the long way makes anew.
    if short and checksums_valid(data):
        assert short == written
    return written
