# SPDX-License-Identifier: Apache-2.0
"""The sender on the wire: which packets carry the option."""

import socket
from ipaddress import ip_address
from itertools import chain, combinations
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, Where
from cloud_toa.demo.lab import Lab
from cloud_toa.option import Client, Kinds
from cloud_toa.packet import FIN, SYN, Packet
from tests.netns.conftest import receive
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import SERVER, SERVER6, balancer, capture, listen, talk

TCP_FASTOPEN_CONNECT = 30
TCP_MD5SIG = 14


def place_of(packet: Packet) -> Where:
    if packet.flags & SYN:
        return Where.SYN
    return Where.DATA if packet.payload < len(packet.data) else Where.ACK


def converse(
    lab: Lab, sender: Path, servers: Path, client: tuple[str, int] = CLIENT
) -> list[Packet]:
    """Connect, ask, get an answer, ask again, close; answer what the edge sent."""
    with capture(lab) as cable:
        with listen(lab, servers, SERVER) as listener, balancer(lab, sender, client) as sock:
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                talk(sock, conn)
            sock.close()
        return cable.until(FIN)


WHERES = [
    Where(sum(places))
    for places in chain.from_iterable(combinations(Where, size) for size in (1, 2, 3))
]


@pytest.mark.parametrize("where", WHERES, ids=str)
def test_where_and_until_the_origin_answers(
    lab: Lab, sender: Path, servers: Path, where: Where
) -> None:
    edge.attach([sender], EdgeSettings(where=where))
    packets = converse(lab, sender, servers)
    first_data = next(n for n, packet in enumerate(packets) if place_of(packet) is Where.DATA)
    for number, packet in enumerate(packets):
        expected = number <= first_data and place_of(packet) in where
        assert (marked(packet) is not None) == expected, (number, packet)
    now = counters()
    assert (now["syn"], now["ack"], now["data"]) == tuple(int(place in where) for place in Where)


def test_server_that_speaks_first(lab: Lab, sender: Path, servers: Path) -> None:
    with capture(lab) as cable, listen(lab, servers, SERVER) as listener:
        with balancer(lab, sender, CLIENT) as sock:
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                conn.sendall(b"220 ready")
                assert sock.recv(20) == b"220 ready"
                sock.sendall(b"EHLO")
                assert conn.recv(10) == b"EHLO"
        packets = cable.until(FIN)
    assert [marked(packet) is not None for packet in packets[:2]] == [True, True]
    assert not any(map(marked, packets[2:]))


@pytest.mark.parametrize(
    ("kind_v4", "kind_v6", "client"), [(200, 253, CLIENT), (200, 253, CLIENT6), (252, 252, CLIENT6)]
)
def test_kinds_per_family(
    lab: Lab, sender: Path, servers: Path, kind_v4: int, kind_v6: int, client: tuple[str, int]
) -> None:
    edge.attach([sender], EdgeSettings(kind_v4, kind_v6))
    with capture(lab) as cable, listen(lab, servers, ("::", 7000)):
        with balancer(lab, sender, client, family=6) as sock:
            sock.connect((f"::ffff:{SERVER[0]}", SERVER[1]))
            syn = next(cable.packets())
    assert marked(syn, Kinds((kind_v4,), (kind_v6,))) == Client(ip_address(client[0]), client[1])
    assert marked(syn) is None


def test_middlebox_that_drops_unknown_options(lab: Lab, sender: Path, receiver: Path) -> None:
    """A later SYN goes without, the connection is made, and the ACK carries the option."""
    lab.origin.run("nft", "add table inet middlebox")
    lab.origin.run("nft", "add chain inet middlebox in { type filter hook input priority 0; }")
    lab.origin.run(
        "nft", "add rule inet middlebox in tcp flags & (syn | ack) == syn "
        "tcp option @254,0,8 254 counter drop",
    )  # fmt: skip
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, sender, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        packets = cable.until(FIN)
    assert peer == CLIENT
    syns = [packet for packet in packets if packet.flags & SYN]
    assert [marked(syn) is not None for syn in syns] == [True, True, False]
    assert marked(packets[len(syns)])
    assert counters()["syn_without"] == 1
    assert "packets 2" in lab.origin.run("nft", "list table inet middlebox")


@pytest.mark.parametrize(
    "client", [("203.0.113.9", 0xF989), ("195.217.1.2", 0xE2D4)], ids=["Fast Open", "SMC"]
)
def test_syn_that_linux_would_misread(
    lab: Lab, sender: Path, receiver: Path, client: tuple[str, int]
) -> None:
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, sender, client) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        packets = cable.until(FIN)
    assert peer == client
    assert [marked(packet) is not None for packet in packets[:2]] == [False, True]
    assert counters()["syn_magic"] == 1
    # Under another kind it is a port like any other.
    edge.attach([sender], EdgeSettings(200, 200))
    receive(receiver, Kinds((200,), (200,)))
    assert marked(converse(lab, sender, receiver, client)[0], Kinds((200,), (200,)))


def sign(sock: socket.socket, peer: tuple[str, int]) -> None:
    """Have the connection to an IPv6 peer signed by MD5, as between BGP speakers."""
    ip = ip_address(peer[0])
    address = socket.AF_INET6.to_bytes(2, "little") + bytes(6) + ip.packed + bytes(4)
    sock.setsockopt(
        socket.IPPROTO_TCP,
        TCP_MD5SIG,
        address.ljust(128, b"\0") + bytes(2) + b"\3\0" + bytes(4) + b"key".ljust(80, b"\0"),
    )


def test_no_room_is_counted_and_the_connection_made(lab: Lab, sender: Path, servers: Path) -> None:
    """Signatures leave less than 20 bytes."""
    with listen(lab, servers, SERVER6) as listener:
        sign(listener, ("fd09::1", 0))
        with balancer(lab, sender, CLIENT6, family=6) as sock:
            sign(sock, SERVER6)
            sock.connect(SERVER6)
            conn, peer = listener.accept()
            with conn:
                assert peer[0] == "fd09::1"
                # The SYN has its MSS too; the ACK takes both options exactly.
                now = counters()
                assert (now["no_room"], now["syn"], now["ack"]) == (1, 0, 1)


def test_no_packet_exceeds_the_mtu(lab: Lab, sender: Path, receiver: Path) -> None:
    # Without it the kernel hands packets of 64 KB to the cable, to be cut there.
    lab.edge.ip("link set to-origin gso_max_segs 1")
    sent = 200_000
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, sender, CLIENT) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                sock.sendall(bytes(sent))
                got = 0
                while got < sent:
                    got += len(conn.recv(65536))
        packets = cable.until(FIN)
    assert max(len(packet.data) for packet in packets) == 1500
    carrying = [packet for packet in packets if place_of(packet) is Where.DATA and marked(packet)]
    assert carrying
    assert len(carrying[0].data) == 1500


def test_fast_open(lab: Lab, sender: Path, receiver: Path) -> None:
    """A cookie takes 12 bytes of the SYN: an IPv4 option still fits, an IPv6 one waits."""
    for host in (lab.edge, lab.origin):
        host.sysctl("net.ipv4.tcp_fastopen", "3")
    with listen(lab, receiver, ("::", 7000)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
        for _ in range(2):  # the first fetches the cookie, the second uses it
            with balancer(lab, sender, CLIENT) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
                sock.connect(SERVER)
                sock.sendall(b"early")
                conn, peer = listener.accept()
                with conn:
                    assert conn.recv(10) == b"early"
                assert (peer[0].removeprefix("::ffff:"), peer[1]) == CLIENT


def test_no_program_runs_for_data_after_the_answer(lab: Lab, sender: Path, receiver: Path) -> None:
    """Bulk costs nothing: the runs of a connection do not grow with what passes."""

    def runs() -> int:
        sides = (edge.status(), origin.status())
        return sum(program.run_cnt for side in sides if side for program in side.programs)

    stats = Path("/proc/sys/kernel/bpf_stats_enabled")
    before = stats.read_text()
    stats.write_text("1")
    try:
        with listen(lab, receiver, SERVER) as listener, balancer(lab, sender, CLIENT) as sock:
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                for speaker, hearer in ((sock, conn), (conn, sock), (sock, conn)):
                    speaker.sendall(b"x")
                    assert hearer.recv(1) == b"x"
                settled = runs()
                assert settled > 0
                for speaker, hearer in ((sock, conn), (conn, sock)) * 100:
                    speaker.sendall(bytes(50_000))
                    left = 50_000
                    while left:
                        left -= len(hearer.recv(left))
                assert runs() == settled
    finally:
        stats.write_text(before)
