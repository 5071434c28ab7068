# SPDX-License-Identifier: Apache-2.0
"""The sender's list of origins: who is on it gets the client, and nobody else."""

from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.origins import Origins
from cloud_toa.packet import FIN
from tests.netns.sender import CLIENT, CLIENT6, counters, marked
from tests.netns.traffic import SERVER, SERVER6, balancer, capture, listen


def attach(balancers: Path, *origins: str) -> None:
    edge.attach([balancers], EdgeSettings(origins=Origins.parse(origins)))


LISTS = [
    (["10.9.0.2"], {4: True, 6: False}),
    (["10.9.0.2:7000"], {4: True, 6: False}),
    (["10.9.0.2:7001"], {4: False, 6: False}),
    (["10.9.0.3"], {4: False, 6: False}),
    (["10.9.0.0/24"], {4: True, 6: False}),
    (["10.9.0.0/24:7000"], {4: True, 6: False}),
    (["10.9.0.0/24:88"], {4: False, 6: False}),
    # 7000 is 0x1b58: neither its bytes in another order nor a part of them is meant.
    (["10.9.0.2:22555", "[fd09::2]:22555"], {4: False, 6: False}),
    (["0.0.0.0/1"], {4: True, 6: False}),
    (["fd09::2"], {4: False, 6: True}),
    (["[fd09::2]:7000"], {4: False, 6: True}),
    (["[fd09::2]:7001"], {4: False, 6: False}),
    (["[fd09::]/64:7000"], {4: False, 6: True}),
    (["8000::/1"], {4: False, 6: True}),
    (["fd0a::/64"], {4: False, 6: False}),
    # The longest prefix is of another port, or of another network.
    (["10.9.0.2:7001", "10.9.0.0/24:7000", "10.0.0.0/8:7002"], {4: True, 6: False}),
    (["10.9.0.2:7001", "10.9.0.0/24", "fd09::/64"], {4: True, 6: True}),
]


@pytest.mark.parametrize(
    ("origins", "meant"), LISTS, ids=[",".join(origins) for origins, _ in LISTS]
)
def test_destinations(
    lab: Lab, balancers: Path, receiver: Path, origins: list[str], meant: dict[int, bool]
) -> None:
    """An IPv6 socket that connects to ::ffff:10.9.0.2 connects to 10.9.0.2."""
    attach(balancers, *origins)
    visits = [
        (4, CLIENT, SERVER, meant[4]),
        (6, CLIENT, (f"::ffff:{SERVER[0]}", SERVER[1]), meant[4]),
        (6, CLIENT6, (f"::ffff:{SERVER[0]}", SERVER[1]), meant[4]),
        (6, CLIENT, SERVER6, meant[6]),
        (6, CLIENT6, SERVER6, meant[6]),
    ]
    with listen(lab, receiver, ("::", SERVER[1])) as listener:
        for family, client, server, expected in visits:
            with balancer(lab, balancers, client, family) as sock:
                sock.connect(server)
                conn, peer = listener.accept()
                conn.close()
            assert (peer[0].removeprefix("::ffff:") == client[0]) is expected, (client, server)
            if not expected:
                assert peer[0].removeprefix("::ffff:") in EDGE_TO_ORIGIN.values()
    now = counters()
    assert now["connections"] == sum(expected for *_, expected in visits)
    assert now["elsewhere"] == sum(not expected for *_, expected in visits)


def test_no_packet_to_others_is_marked(lab: Lab, balancers: Path, receiver: Path) -> None:
    attach(balancers, "10.9.0.2:7001")
    with capture(lab) as cable, listen(lab, receiver, SERVER) as listener:
        with balancer(lab, balancers, CLIENT) as sock:
            sock.connect(SERVER)
            with listener.accept()[0] as conn:
                sock.sendall(b"x")
                assert conn.recv(1) == b"x"
        packets = cable.until(FIN)
    assert not any(map(marked, packets))
    assert counters() | {"clients": 1, "elsewhere": 1} == counters()
    assert sum(counters().values()) == 2


def test_a_client_named_in_one_call(lab: Lab, balancers: Path, receiver: Path) -> None:
    attach(balancers, "10.9.0.2:7000")
    with listen(lab, receiver, SERVER) as here, listen(lab, receiver, (SERVER[0], 7001)) as there:
        for listener, port, expected in (
            (here, 7000, CLIENT[0]),
            (there, 7001, EDGE_TO_ORIGIN[4]),
        ):
            with balancer(lab, balancers, None) as sock:
                cloud_toa.set_client(sock, CLIENT)
                sock.connect((SERVER[0], port))
                conn, peer = listener.accept()
                conn.close()
            assert peer[0] == expected


def test_another_list_replaces_the_programs(lab: Lab, balancers: Path, receiver: Path) -> None:
    def seen() -> str:
        with balancer(lab, balancers, CLIENT) as sock:
            sock.connect(SERVER)
            conn, peer = listener.accept()
            conn.close()
        return str(peer[0])

    settings = EdgeSettings(origins=Origins.parse(["10.9.0.3"]))
    with listen(lab, receiver, SERVER) as listener:
        edge.attach([balancers], settings)
        assert not edge.attach([balancers], settings)
        assert seen() == EDGE_TO_ORIGIN[4]
        more = EdgeSettings(origins=Origins.parse(["10.9.0.2:7000", "10.9.0.3"]))
        assert edge.attach([balancers], more).replaced
        assert seen() == CLIENT[0]
        status = edge.status()
        assert status is not None
        assert status.settings == more
        assert edge.attach([balancers], EdgeSettings()).replaced
        assert seen() == CLIENT[0]
        assert counters()["elsewhere"] == 1
