# SPDX-License-Identifier: Apache-2.0
"""How large a packet may be on the way to an address, by what the kernel knows now.

Source: ip(7), IP_MTU; ipv6(7), IPV6_MTU.
"""

import socket

_IP_MTU = 14
_IPV6_MTU = 24
_ANY_PORT = 9


def path_mtu(address: bytes) -> int:
    """The path's MTU in bytes to an address of 4 or 16 bytes; 0 where there is no route.

    A UDP socket that is connected sends nothing, and has the route that a packet takes:
    with the device's MTU, and what routers have said since.
    """
    family, level, option = (
        (socket.AF_INET, socket.IPPROTO_IP, _IP_MTU)
        if len(address) == 4
        else (socket.AF_INET6, socket.IPPROTO_IPV6, _IPV6_MTU)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((socket.inet_ntop(family, address), _ANY_PORT))
            return sock.getsockopt(level, option)
        except OSError:
            return 0
