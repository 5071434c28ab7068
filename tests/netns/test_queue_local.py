# SPDX-License-Identifier: Apache-2.0
"""Clients of this host or link in queue mode: they are served, and go to nobody else by name."""

from ipaddress import ip_address
from itertools import count
from pathlib import Path

import pytest

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client, encode
from cloud_toa.packet import FIN
from tests.netns import traffic
from tests.netns.queue_control import balancer
from tests.netns.queue_edge import running
from tests.netns.traffic import SERVER, SERVER6, capture, listen, talk

_ports = count(42001)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "169.254.1.2", "fe80::7"])
@pytest.mark.parametrize("datapath", ["queue", "bpf"])
def test_named_on_the_control_socket(
    lab: Lab, balancers: Path, receiver: Path, datapath: str, client: str
) -> None:
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, ("::", 7000)) as listener:
        for server in (SERVER, SERVER6):
            own = EDGE_TO_ORIGIN[ip_address(server[0]).version]
            port = next(_ports)
            lb.add(port, (client, 4321))
            with capture(lab) as cable:
                assert lb.visit(listener, port, server) == (own, port)
                option = encode(Client(ip_address(client), 4321))
                assert not any(option in packet.data for packet in cable.until(FIN | 4))
        if datapath == "queue":
            now = lb.edge.counters()
            assert now["written"] == 0
            assert now["local"] == now["packets"] > 0


def test_bound_to_a_link_local_client(lab: Lab, receiver: Path) -> None:
    """The connection is made, from the edge's own address, and nothing of it is queued."""
    with running(lab) as edge, listen(lab, receiver, SERVER) as listener, capture(lab) as cable:
        with traffic.balancer(lab, receiver, ("169.254.1.2", 4321)) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            with conn:
                assert peer[0] == EDGE_TO_ORIGIN[4]
                talk(sock, conn)
        option = encode(Client(ip_address("169.254.1.2"), 4321))
        assert not any(option in packet.data for packet in cable.until(FIN))
        now = edge.counters()
        assert (now["local"], now["queued"]) == (1, 0)
