# SPDX-License-Identifier: Apache-2.0
"""Existing nodes' client of the control socket: no hello, no waiting, ports used again at once."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from cloud_toa.bpf import lines
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from tests.netns.far_origin import far_origin
from tests.netns.queue_control import Balancer, balancer
from tests.netns.sender import CLIENT
from tests.netns.traffic import SERVER, listen

DATAPATHS = pytest.mark.parametrize("datapath", ["queue", "bpf"])
OLD = Path(__file__).with_name("old_client.py")
OWN, PORT = EDGE_TO_ORIGIN[4], 42001
# Of 3,000. In queue mode, packets pass as they are when workers are late: on a busy machine, many.
RIGHT = {"bpf": 2997, "queue": 1500}
SERVING = Path(__file__).with_name("telling_server.py")


@contextmanager
def without_program() -> Iterator[None]:
    """As on a kernel that refuses the program: its file is covered, in this test's mounts."""
    subprocess.run(["mount", "--bind", "/dev/null", lines.OBJECT], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", lines.OBJECT], check=True)


def known(lb: Balancer) -> None:
    """Have it seen what kind of peer this is. The second line is read after that."""
    for _ in range(2):
        lb.control.sendall(b"no verb\n")
        lb.edge.until("no verb")


def visits(lab: Lab, place: Path, server: str, *options: str) -> dict[str, int]:
    """What the client has counted."""
    command = [sys.executable, str(OLD), f"--control={lab.files / 'control.sock'}",
               f"--source={EDGE_TO_ORIGIN[4]}", f"--server={server}", *options]  # fmt: skip
    process = lab.edge.popen(command, place, stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=500)
    return dict(json.loads(said))


@pytest.mark.one_kernel
@DATAPATHS
@pytest.mark.parametrize(
    "options",
    [("--at-once=8", "--six"), ("--at-once=50", "--rate=200")],
    ids=["as fast as it can", "200 a second"],
)
def test_thousands(
    lab: Lab, balancers: Path, receiver: Path, datapath: str, options: tuple[str, ...]
) -> None:
    lab.start(lab.origin, [sys.executable, str(SERVING), "7000"], [SERVER], place=receiver)
    with balancer(lab, balancers, datapath, hello=False) as lb:
        found = visits(lab, balancers, SERVER[0], "--connections=3000", *options)
        assert "wrong" not in found
        assert sum(found.values()) == 3000
        assert found["right"] >= RIGHT[datapath]
        assert "can't execute" not in lb.edge.rest()


@pytest.mark.one_kernel
@DATAPATHS
def test_over_a_way_of_200_microseconds(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    with far_origin(lab, 200e-6) as far:
        lab.start(lab.origin, [sys.executable, str(SERVING), "7000"], [SERVER], place=receiver)
        with balancer(lab, balancers, datapath, False, f"-origin={far}"):
            found = visits(lab, balancers, far, "--connections=3000", "--at-once=50", "--rate=200")
            assert "wrong" not in found
            assert sum(found.values()) == 3000
            assert found["right"] >= RIGHT[datapath]


@DATAPATHS
@pytest.mark.parametrize("kernel", ["executes lines", "can't"])
def test_an_entry_that_came_after_its_connection(
    lab: Lab, balancers: Path, receiver: Path, datapath: str, kernel: str
) -> None:
    """It is for no later one; again and again on one port."""
    old = kernel == "can't"
    with without_program() if old else nullcontext():
        with balancer(lab, balancers, datapath, hello=False) as lb:
            with listen(lab, receiver, SERVER) as listener:
                known(lb)
                for _ in range(5):
                    with lb.connected(PORT, SERVER):
                        conn, peer = listener.accept()
                        with conn:
                            assert peer == (OWN, PORT)
                            lb.say(f"add:{PORT}:{CLIENT[0]}:{CLIENT[1]}")
                    assert lb.visit(listener, PORT) == (OWN, PORT)


@DATAPATHS
def test_a_port_that_is_free_again_and_one_that_is_in_use(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    """After a connection without a client the next one has its own; what `bind` refused, none."""
    with balancer(lab, balancers, datapath, hello=False) as lb:
        with listen(lab, receiver, SERVER) as listener:
            known(lb)
            for number in range(1, 6):
                assert lb.visit(listener, PORT) == (OWN, PORT)
                client = "203.0.113.77", number
                lb.control.sendall(f"add:{PORT}:{client[0]}:{number}\n".encode())
                with lb.connected(PORT, SERVER) as sock:
                    conn, peer = listener.accept()
                    with conn:
                        assert peer == client
                        lb.control.sendall(f"add:{PORT}:{CLIENT[0]}:{CLIENT[1]}\n".encode())
                        sock.sendall(b"x")
                        assert conn.recv(1) == b"x"
                assert lb.visit(listener, PORT) == (OWN, PORT)


@DATAPATHS
def test_a_peer_that_was_told_ok_is_not_overruled(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    """Another one's line for the same port takes its client away, and puts none in its place."""
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, SERVER) as listener:
        with socket.socket(socket.AF_UNIX) as old:
            old.connect(str(lab.files / "control.sock"))
            for _ in range(2):
                old.sendall(b"no verb\n")
                lb.edge.until("no verb")
            with lb.bound(PORT, SERVER) as sock:
                lb.add(PORT, CLIENT)
                old.sendall(f"add:{PORT}:203.0.113.77:1\n".encode())
                old.sendall(b"no verb\n")
                lb.edge.until("no verb")
                sock.connect(SERVER)
                with listener.accept()[0] as conn:
                    sock.sendall(b"x")
                    assert conn.recv(1) == b"x"
                    assert conn.getpeername() == (OWN, PORT)


@DATAPATHS
def test_beside_a_peer_that_says_hello(
    lab: Lab, balancers: Path, receiver: Path, datapath: str
) -> None:
    with balancer(lab, balancers, datapath) as lb, listen(lab, receiver, SERVER) as listener:
        with socket.socket(socket.AF_UNIX) as old:
            old.connect(str(lab.files / "control.sock"))
            for _ in range(2):
                old.sendall(b"no verb\n")
                lb.edge.until("no verb")
            for number in range(1, 6):
                mine, other = ("203.0.113.77", number), ("203.0.113.78", number)
                lb.add(PORT, mine)
                old.sendall(f"add:{PORT + 1}:{other[0]}:{number}\n".encode())
                assert lb.visit(listener, PORT + 1) == other
                assert lb.visit(listener, PORT) == mine
                assert lb.visit(listener, PORT) == (OWN, PORT)
