# SPDX-License-Identifier: Apache-2.0
"""Packets of a queue, of a capture, and SYNs that the kernel saved."""

from cloud_toa.nfqueue import segment
from cloud_toa.nfqueue.segment import LeftAloneError
from cloud_toa.option import Kinds, decode, usable
from cloud_toa.packet import NoRoomError, Packet, PacketError, checksums_valid, strip

_ROUTE = 1500


def one(data: bytes) -> None:
    """A packet is refused, or it can be written with its source as an option, and without it."""
    for cut in (False, True):
        try:
            packet = Packet.parse(data, cut)
        except PacketError:
            continue
        assert packet.data == data[: packet.length]
        decode(packet.options, Kinds())
        strip(packet, Kinds())
    try:
        packet = segment.parse(data)
        written = segment.write(packet, (254, 254), lambda _: _ROUTE)
    except (LeftAloneError, NoRoomError):
        return
    there = Packet.parse(written)
    assert checksums_valid(written)
    assert there.data[there.payload :] == packet.data[packet.payload :]
    assert (there.source, there.destination) == (packet.source, packet.destination)
    assert decode(there.options, Kinds()).client == (
        packet.source if packet.source[1] and usable(packet.source[0]) else None
    )
    assert Packet.parse(strip(there, Kinds())).options == packet.options
