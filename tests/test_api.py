# SPDX-License-Identifier: Apache-2.0
import errno
import socket
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

import cloud_toa
from cloud_toa import Client
from cloud_toa.api import SocketAddress
from cloud_toa.errors import ToaError

# The fixtures make real traffic; a conftest's are not seen from the folder above.
from tests.origin.addresses import V4, V6
from tests.origin.conftest import Connect, Listen, connect, edge_cgroup, listen, receiver_cgroup

__all__ = ["connect", "edge_cgroup", "listen", "receiver_cgroup"]


class Recording(socket.socket):
    """A socket of a load balancer that keeps what its sender is told."""

    def setsockopt(self, *arguments: Any) -> None:
        self.told = arguments


class Answering:
    """A connection whose receiver answers these bytes."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked: tuple[int, int, int] | None = None

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        self.asked = (level, optname, buflen)
        return self.answer


def sockaddr(family: int, rest: str) -> bytes:
    return family.to_bytes(2, sys.byteorder) + bytes.fromhex(rest)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    ("named", "seen"),
    [
        (V4, V4),
        (V6, V6),
        (("198.51.100.7", 5678), V4),
        (("2001:db8::7", 5678, 0, 0), V6),
        (("::ffff:198.51.100.7", 5678, 0, 0), V4),
        (Client(ip_address("::ffff:198.51.100.7"), 5678), V4),
        (("192.0.2.1", 1), Client(ip_address("192.0.2.1"), 1)),
        (("192.0.2.1", 65535), Client(ip_address("192.0.2.1"), 65535)),
    ],
    ids=str,
)
def test_the_client_that_is_set_is_the_client_of_the_connection(
    connect: Connect,
    listen: Listen,
    receiver_cgroup: Path,
    host: str,
    named: Client | SocketAddress,
    seen: Client,
) -> None:
    with listen(host, receiver_cgroup) as listener:
        listener.listen()
        connect(listener.getsockname()[:2], named)
        with listener.accept()[0] as conn:
            assert cloud_toa.client_of(conn) == seen


def test_the_last_client_that_was_set_counts(
    connect: Connect, listen: Listen, receiver_cgroup: Path
) -> None:
    with listen("127.0.0.1", receiver_cgroup) as listener:
        listener.listen()
        connect(listener.getsockname(), V6, prepare=lambda sock: cloud_toa.set_client(sock, V4))
        with listener.accept()[0] as conn:
            assert cloud_toa.client_of(conn) == V6


def test_a_connection_that_exists_takes_no_client(connect: Connect, listen: Listen) -> None:
    with listen("127.0.0.1") as listener:
        listener.listen()
        conn = connect(listener.getsockname())
        with pytest.raises(PermissionError):
            cloud_toa.set_client(conn, V4)


def test_a_connection_without_toa_has_no_client(
    connect: Connect, listen: Listen, receiver_cgroup: Path
) -> None:
    for host in ("127.0.0.1", "::1"):
        with listen(host, receiver_cgroup) as listener:
            listener.listen()
            connect(listener.getsockname()[:2])
            with listener.accept()[0] as conn:
                assert cloud_toa.client_of(conn) is None


def test_a_source_that_is_not_trusted_names_no_client(
    connect: Connect, listen: Listen, receiver_cgroup: Path
) -> None:
    with listen("127.0.0.1", receiver_cgroup) as listener:
        listener.listen()
        connect(listener.getsockname(), V4, source="127.0.0.2")
        with listener.accept()[0] as conn:
            assert cloud_toa.client_of(conn) is None


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_without_the_programs_the_kernel_says_that_it_knows_no_such_option(
    family: socket.AddressFamily,
) -> None:
    with socket.socket(family) as sock:
        with pytest.raises(OSError, match=r".") as refused:
            cloud_toa.set_client(sock, V4)
        assert refused.value.errno == errno.ENOPROTOOPT
        with pytest.raises(OSError, match=r".") as refused:
            cloud_toa.client_of(sock)
        assert refused.value.errno == errno.ENOPROTOOPT


@pytest.mark.parametrize(
    "address",
    [
        ("0.0.0.0", 80),
        ("::", 80),
        ("::ffff:0.0.0.0", 80),
        ("224.0.0.1", 80),
        ("ff02::1", 80),
        ("255.255.255.255", 80),
        ("192.0.2.1", 65536),
        ("192.0.2.1", -1),
        ("client.example", 80),
        ("", 80),
    ],
    ids=str,
)
def test_an_address_that_no_client_can_have_is_refused_before_the_kernel_is_asked(
    address: Client | SocketAddress,
) -> None:
    # Outside of a TOA cgroup the kernel would answer OSError instead.
    with socket.socket() as sock, pytest.raises(ToaError):
        cloud_toa.set_client(sock, address)


@pytest.mark.parametrize(
    ("client", "value"),
    [
        (V4, sockaddr(socket.AF_INET, "162e c6336407 0000000000000000")),
        (
            V6,
            sockaddr(socket.AF_INET6, "162e 00000000 20010db8000000000000000000000007 00000000"),
        ),
        # Without a port: what is sent then, is for the sender's settings to say.
        (Client(V4.ip, None), sockaddr(socket.AF_INET, "0000 c6336407 0000000000000000")),
        (Client(V4.ip, 0), sockaddr(socket.AF_INET, "0000 c6336407 0000000000000000")),
    ],
    ids=str,
)
def test_what_is_set_is_a_sockaddr(client: Client, value: bytes) -> None:
    with Recording() as sock:
        cloud_toa.set_client(sock, client)
        assert sock.told == (socket.IPPROTO_IP, cloud_toa.TOA_CLIENT, value)


def test_the_answer_is_a_sockaddr() -> None:
    v4 = Answering(sockaddr(socket.AF_INET, "162e c6336407 0000000000000000"))
    assert cloud_toa.client_of(v4) == V4
    assert v4.asked == (socket.IPPROTO_IP, cloud_toa.TOA_CLIENT, 28)
    v6 = sockaddr(socket.AF_INET6, "162e 00000000 20010db8000000000000000000000007 00000000")
    assert cloud_toa.client_of(Answering(v6)) == V6


def test_a_port_of_0_means_that_the_option_had_none() -> None:
    v4 = sockaddr(socket.AF_INET, "0000 c6336407 0000000000000000")
    assert cloud_toa.client_of(Answering(v4)) == Client(V4.ip, None)
    v6 = sockaddr(socket.AF_INET6, "0000 00000000 20010db8000000000000000000000007 00000000")
    assert cloud_toa.client_of(Answering(v6)) == Client(V6.ip, None)


@pytest.mark.parametrize("answer", [b"", bytes(16), bytes(28), b"\2\0", b"\xff" * 16, b"\xff" * 28])
def test_another_answer_is_no_client(answer: bytes) -> None:
    assert cloud_toa.client_of(Answering(answer)) is None
