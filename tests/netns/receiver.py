# SPDX-License-Identifier: Apache-2.0
"""What the receiver is sent by hand and from where; what it counted and answered."""

import socket
from ipaddress import ip_address

from cloud_toa.option import Client, encode
from tests.netns.traffic import SERVER, SERVER6

TRUSTED, OTHER = "10.9.0.77", "10.9.0.78"
TRUSTED6, OTHER6 = "fd09::77", "fd09::78"
CLIENT = Client(ip_address("203.0.113.9"), 4321)
CLIENT6 = Client(ip_address("2001:db8:1::9"), 4321)
TOA, TOA6 = encode(CLIENT), encode(CLIENT6)


def peer_of(conn: socket.socket) -> Client:
    host, port = conn.getpeername()[:2]
    ip = ip_address(host)
    assert ip.version == 4 or not str(ip).startswith("::ffff:") or ip.ipv4_mapped
    return Client(getattr(ip, "ipv4_mapped", None) or ip, port)


def sources(trusted: bool) -> list[tuple[str, tuple[str, int]]]:
    return (
        [(TRUSTED, SERVER), (TRUSTED6, SERVER6)]
        if trusted
        else [(OTHER, SERVER), (OTHER6, SERVER6)]
    )
