# SPDX-License-Identifier: Apache-2.0
"""Put the client into any packet that a load balancer's host sends. Pure but for the path's MTU."""

from collections.abc import Callable
from ipaddress import ip_address

from cloud_toa import packet
from cloud_toa.errors import ToaError
from cloud_toa.option import EXPERIMENTAL, Client, IPAddress, encode, is_local, plain
from cloud_toa.packet import SYN, NoRoomError, Packet

__all__ = ["LeftAloneError", "LocalClientError", "NoRoomError", "write"]

FASTOPEN_PORT, SMC_PORT = 0xF989, 0xE2D4
"""Client ports that make, or begin, what Linux reads under kind 254 in a SYN as its own."""
_SMC_ADDRESS = b"\xc3\xd9"

SMALL = 552
"""Bytes that every IPv4 path takes, as Linux believes no less (net.ipv4.route.min_pmtu)."""

PathMtu = Callable[[bytes], int]
"""The path's MTU in bytes to an address of 4 or 16 bytes."""


class LeftAloneError(ToaError):
    """A packet that can only go as it is: no TCP that we understand, or Linux would misread it."""


class LocalClientError(ToaError):
    """A client's address that means something else on the host that the packet goes to."""


def require_same_meaning(option: bytes, destination: IPAddress) -> None:
    """See that the client in an option of ours means the same at the destination.

    Raises:
        LocalClientError: it is loopback or link-local, and the destination is another host.
    """
    if is_local(ip_address(option[4:])) and not plain(destination).is_loopback:
        raise LocalClientError("the client is a loopback or link-local address of this host")


def parse(data: bytes) -> Packet:
    """The packet.

    Raises:
        LeftAloneError: none that we understand.
    """
    try:
        return Packet.parse(data)
    except ToaError as error:
        raise LeftAloneError(str(error)) from error


def write(parsed: Packet, kinds: tuple[int, int], path_mtu: PathMtu, option: bytes = b"") -> bytes:
    """The packet with an option: the one given, else of its own source.

    Args:
        parsed: a packet whose checksums are complete.
        kinds: the option's for an IPv4 and an IPv6 source.
        path_mtu: asked where the packet is not small.
        option: whole, its length a multiple of 4.

    Raises:
        NoRoomError: the header is full, or the path's MTU would be exceeded.
        LeftAloneError: it must go as it is.
    """
    try:
        option = option or encode(Client(*parsed.source), *kinds)
        written = packet.insert(parsed, option)
    except NoRoomError:
        raise
    except ToaError as error:
        raise LeftAloneError(str(error)) from error
    if len(written) > SMALL and len(written) > path_mtu(parsed.destination[0].packed):
        raise NoRoomError
    if parsed.flags & SYN and _is_magic(option):
        raise LeftAloneError("Linux would read this SYN's option as its own")
    return written


def _is_magic(option: bytes) -> bool:
    """Whether Linux reads the option in a SYN as Fast Open's or SMC's, which share kind 254."""
    port = int.from_bytes(option[2:4], "big")
    return option[0] == EXPERIMENTAL and (
        port == FASTOPEN_PORT or (port == SMC_PORT and option[4:6] == _SMC_ADDRESS)
    )
