# SPDX-License-Identifier: Apache-2.0
"""No packet of the queue datapath exceeds what the path takes; the option has its place."""

import re
import socket
from ipaddress import ip_address
from itertools import product
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from cloud_toa.option import V4_LENGTH, V6_LENGTH, Client
from cloud_toa.packet import FIN, Packet
from tests.netns.queue_control import balancer as control_balancer
from tests.netns.queue_edge import running
from tests.netns.sender import CLIENT, CLIENT6, marked
from tests.netns.traffic import SERVER, SERVER6, balancer, capture, listen, wait_until

pytestmark = pytest.mark.only_on(kernel="6.12")

TIMESTAMPS = 12
HEADERS = {4: 40, 6: 60}
OPTION = {4: V4_LENGTH, 6: V6_LENGTH}
FAMILIES = [(CLIENT, SERVER), (CLIENT6, SERVER6)]
ONE_QUEUE = "-max-queue-id=1"
"""With several, data may overtake the ACK: each processor has its own."""


def set_mtus(lab: Lab, edge: int, origin: int) -> None:
    lab.edge.ip(f"link set to-origin mtu {edge}")
    lab.origin.ip(f"link set eth0 mtu {origin}")


def send_at_once(
    lab: Lab, servers: Path, sock: socket.socket, server: tuple[str, int]
) -> tuple[int, list[Packet]]:
    """Fill the initial window as soon as the connection is made, and more; then close.

    Answers the MSS that the edge's TCP believes of the origin, and what the edge sent.
    """
    data = bytes(range(256)) * 800
    with capture(lab) as cable, listen(lab, servers, server) as listener:
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.connect(server)
            mss = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + TIMESTAMPS
            sock.sendall(data)
            with listener.accept()[0] as conn:
                got = bytearray()
                while len(got) < len(data):
                    got += conn.recv(65536)
                assert got == data
        return mss, cable.until(FIN)


def transparent(lab: Lab, servers: Path, client: tuple[str, int]) -> socket.socket:
    return balancer(lab, servers, client, ip_address(client[0]).version)


def data_in(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.payload < len(packet.data)]


@pytest.mark.parametrize(
    ("edge_mtu", "origin_mtu"),
    [
        (1500, 1500),
        (9000, 9000),
        (1280, 1280),
        pytest.param(9000, 1500, marks=pytest.mark.one_kernel),
        pytest.param(1280, 1500, marks=pytest.mark.one_kernel),
    ],
)
def test_full_segments_and_the_option(
    lab: Lab, servers: Path, edge_mtu: int, origin_mtu: int
) -> None:
    # Without it the kernel hands packets of 64 KB to the cable, to be cut there.
    lab.edge.ip("link set to-origin gso_max_segs 1")
    set_mtus(lab, edge_mtu, origin_mtu)
    least = min(edge_mtu, origin_mtu)
    with running(lab, ONE_QUEUE) as edge:
        for client, server in FAMILIES:
            version = ip_address(client[0]).version
            before = edge.counters()
            mss, packets = send_at_once(lab, servers, transparent(lab, servers, client), server)
            now = edge.counters()
            assert mss == least - HEADERS[version] - OPTION[version]
            assert max(len(packet.data) for packet in packets) == least
            # The SYN, the ACK, and all data until the origin had answered; what is sent then
            # may overtake what the worker still has.
            carrying = [packet for packet in packets if marked(packet)]
            queued = now["queued"] - before["queued"]
            assert now["written"] - before["written"] == queued == len(carrying)
            assert packets[:3] == carrying[:3]
            assert {len(packet.data) for packet in data_in(carrying)} == {least}
            assert now["no_room"] == now["errors"] == 0


def test_an_mtu_that_changes_is_followed(lab: Lab, servers: Path) -> None:
    def told() -> dict[str, int]:
        shown = lab.edge.run("nft", "list", "map", "inet", "cloud_toa", "mss_ipv4")
        return {name: int(mss) for name, mss in re.findall(r'"(\S+)" : (\d+)', shown)}

    def followed() -> bool:
        return told()["to-origin"] == mtu - HEADERS[4] - OPTION[4]

    lab.edge.ip("link set to-origin gso_max_segs 1")
    with running(lab, ONE_QUEUE) as edge:
        for mtu in (1400, 1500, 1280):
            lab.edge.ip(f"link set to-origin mtu {mtu}")
            wait_until(followed, reason=told)
            for client, server in FAMILIES:
                version = ip_address(client[0]).version
                mss, packets = send_at_once(lab, servers, transparent(lab, servers, client), server)
                assert mss == mtu - HEADERS[version] - OPTION[version]
                assert max(len(packet.data) for packet in packets) == mtu
        # A device that came later, and is gone.
        lab.edge.ip("link add late type veth peer name later")
        wait_until(lambda: "late" in told())
        lab.edge.ip("link delete late")
        wait_until(lambda: "late" not in told())
        assert edge.counters()["no_room"] == 0
        assert "error" not in edge.log


def test_a_path_that_takes_less_than_its_device(lab: Lab, servers: Path) -> None:
    """Full segments go without the option; the SYN and the ACK before them have it."""
    lab.edge.ip(
        "link set to-origin gso_max_segs 1",
        "route add 10.9.0.2/32 dev to-origin mtu lock 1300",
        "route add fd09::2/128 dev to-origin mtu lock 1300",
    )
    with running(lab, ONE_QUEUE) as edge:
        for client, server in FAMILIES:
            before = edge.counters()
            mss, packets = send_at_once(lab, servers, transparent(lab, servers, client), server)
            now = edge.counters()
            assert mss == 1300 - HEADERS[ip_address(client[0]).version]
            assert max(len(packet.data) for packet in packets) == 1300
            assert all(map(marked, packets[:2]))
            assert not any(map(marked, packets[2:]))
            assert now["written"] - before["written"] == 2
            assert now["no_room"] - before["no_room"] == now["queued"] - before["queued"] - 2 > 0


def test_a_client_of_the_other_family(lab: Lab, servers: Path) -> None:
    """Where the control socket may name an IPv6 client, an IPv4 connection leaves room for it."""
    lab.edge.ip("link set to-origin gso_max_segs 1")
    with control_balancer(lab, servers, "queue", True, ONE_QUEUE) as lb:
        port = 42000
        for client, server in product((CLIENT, CLIENT6), (SERVER, SERVER6)):
            port += 1
            lb.add(port, client)
            sock = lb.bound(port, server)
            mss, packets = send_at_once(lab, servers, sock, server)
            version = ip_address(server[0]).version
            assert mss == 1500 - HEADERS[version] - V6_LENGTH
            seen = Client(ip_address(client[0]), client[1])
            assert [marked(packet) for packet in packets[:3]] == [seen] * 3
            assert max(len(packet.data) for packet in packets) == 1500 - (
                V6_LENGTH - OPTION[seen.ip.version]
            )
        assert lb.edge.counters()["no_room"] == 0
