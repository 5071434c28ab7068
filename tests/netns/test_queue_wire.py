# SPDX-License-Identifier: Apache-2.0
"""The queue datapath on the wire: which packets carry the option, and whose are touched."""

import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client, Kinds
from cloud_toa.packet import FIN, SYN, Packet
from tests.netns.queue_edge import QueueEdge, running
from tests.netns.sender import CLIENT, CLIENT6, marked
from tests.netns.traffic import SERVER, SERVER6, balancer, capture, listen, talk

pytestmark = pytest.mark.only_on(kernel="6.12")

FAMILIES = [(CLIENT, SERVER), (CLIENT6, SERVER6)]


def converse(
    lab: Lab, edge: QueueEdge, servers: Path, client: tuple[str, int], server: tuple[str, int]
) -> list[Packet]:
    """Connect, ask, get an answer, ask again; answer what the edge sent.

    Only what went before the answer may have been queued.
    """
    family = ip_address(client[0]).version
    before = edge.counters()["queued"]
    with capture(lab) as cable, listen(lab, servers, server) as listener:
        with balancer(lab, servers, client, family) as sock:
            sock.connect(server)
            with listener.accept()[0] as conn:
                queued = []
                for _ in range(2):
                    talk(sock, conn)
                    queued.append(edge.counters()["queued"] - before)
                assert queued == [3, 3]
        return cable.until(FIN)


def test_until_the_origin_answers(lab: Lab, servers: Path) -> None:
    with running(lab) as edge:
        for client, server in FAMILIES:
            packets = converse(lab, edge, servers, client, server)
            seen = Client(ip_address(client[0]), client[1])
            assert packets[0].flags & SYN
            assert packets[2].data[packets[2].payload :] == b"one"
            assert [marked(packet) for packet in packets[:3]] == [seen] * 3
            assert not any(map(marked, packets[3:]))
            own = EDGE_TO_ORIGIN[seen.ip.version]
            assert {str(packet.source[0]) for packet in packets} == {own}
        assert edge.counters() == {
            "packets": 6, "written": 6, "no_room": 0, "passed": 0, "errors": 0,
            "local": 0, "queued": 6, "syn_without": 0,
        }  # fmt: skip


def test_other_kinds(lab: Lab, servers: Path) -> None:
    kinds = Kinds((200,), (253,))
    with running(lab, "-option-type-v4=200", "-option-type-v6=253") as edge:
        for client, server in FAMILIES:
            packets = converse(lab, edge, servers, client, server)
            seen = Client(ip_address(client[0]), client[1])
            assert [marked(packet, kinds) for packet in packets[:3]] == [seen] * 3
            assert not any(map(marked, packets))


def test_other_destinations_stay_transparent(lab: Lab, servers: Path) -> None:
    """Theirs are the client's address on the wire, and the network's answers."""
    listed = ("-origin=10.9.0.2:7001", "-origin=[fd09::2]:7001", "-origin=10.9.0.3")
    with running(lab, origins=listed) as edge, capture(lab) as cable:
        for client, server in FAMILIES:
            with balancer(lab, servers, client, ip_address(client[0]).version) as sock:
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.connect(server)
                syn = next(cable.packets())
            assert (str(syn.source[0]), syn.source[1]) == client
            assert not marked(syn)
        assert set(edge.counters().values()) == {0}


def test_an_address_of_the_edge_is_no_client(lab: Lab, servers: Path) -> None:
    with running(lab) as edge, capture(lab) as cable:
        for own, (_, server) in zip(EDGE_TO_ORIGIN.values(), FAMILIES, strict=True):
            for client in (None, (own, 4321)):
                with listen(lab, servers, server) as listener:
                    with balancer(lab, servers, client, ip_address(own).version) as sock:
                        sock.connect(server)
                        conn, peer = listener.accept()
                        conn.close()
                assert peer[0] == own
                assert not any(map(marked, cable.until(FIN)))
        assert set(edge.counters().values()) == {0}


def test_a_destination_within_another(lab: Lab, servers: Path) -> None:
    """Each connection is touched once, however many of the listed ones it matches."""
    listed = ("-origin=10.9.0.2", "-origin=10.9.0.0/24", "-origin=10.9.0.2:7000", "-origin=fd09::2")
    with running(lab, origins=listed) as edge:
        packets = converse(lab, edge, servers, CLIENT, SERVER)
    assert len([packet for packet in packets if marked(packet)]) == 3


def test_syn_that_linux_would_misread(lab: Lab, receiver: Path) -> None:
    with running(lab) as edge, listen(lab, receiver, SERVER) as listener:
        for number, fast_open_or_smc in enumerate(
            (("203.0.113.9", 0xF989), ("195.217.1.2", 0xE2D4)), 1
        ):
            with capture(lab) as cable:
                with balancer(lab, receiver, fast_open_or_smc) as sock:
                    sock.connect(SERVER)
                    conn, peer = listener.accept()
                    conn.close()
                packets = cable.until(FIN)
            assert peer == fast_open_or_smc
            assert [marked(packet) is not None for packet in packets[:2]] == [False, True]
            assert edge.counters()["passed"] == number


def test_middlebox_that_drops_unknown_options(lab: Lab, receiver: Path) -> None:
    """A later SYN goes without, the connection is made, and the ACK carries the option."""
    lab.origin.run("nft", "add table inet middlebox")
    lab.origin.run("nft", "add chain inet middlebox in { type filter hook input priority 0; }")
    lab.origin.run(
        "nft", "add rule inet middlebox in tcp flags & (syn | ack) == syn "
        "tcp option @254,0,8 254 counter drop",
    )  # fmt: skip
    with running(lab) as edge, capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, receiver, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        packets = cable.until(FIN)
        now = edge.counters()
    assert peer == CLIENT
    syns = [packet for packet in packets if packet.flags & SYN]
    assert [marked(syn) is not None for syn in syns] == [True, True, False]
    assert marked(packets[len(syns)])
    assert now["syn_without"] == 1


@pytest.mark.one_kernel
@pytest.mark.parametrize("queues", [1, 2, 3])
def test_each_worker_stays_where_its_packets_come_from(lab: Lab, queues: int) -> None:
    allowed = os.sched_getaffinity(0)
    with running(lab, f"-max-queue-id={queues}") as edge:
        for row, worker in enumerate(edge.workers()):
            near = {cpu for cpu in allowed if cpu % queues == row}
            assert os.sched_getaffinity(worker["pid"]) == (near or allowed)
