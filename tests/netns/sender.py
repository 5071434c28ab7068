# SPDX-License-Identifier: Apache-2.0
"""The clients that the sender is told of; what it counted, and which packets it marked."""

from cloud_toa.bpf import edge
from cloud_toa.option import Client, Kinds, decode
from cloud_toa.packet import Packet

CLIENT = ("203.0.113.9", 4321)
CLIENT6 = ("2001:db8:1::9", 4321)


def counters() -> dict[str, int]:
    status = edge.status()
    assert status is not None
    return status.counters


def marked(packet: Packet, kinds: Kinds | None = None) -> Client | None:
    return decode(packet.options, kinds or Kinds()).client
