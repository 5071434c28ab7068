# SPDX-License-Identifier: Apache-2.0
"""An entry that is replaced while a connection takes it: one client or the other, never a mix."""

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

import cloud_toa
from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client
from tests.netns.traffic import SERVER, balancer, listen, reset_at_close

PORT = 40999
CONNECTIONS = 80_000
"""As many as made three mixes before programs looked twice."""
CLIENTS = ("1111:1111:1111:1111:1111:1111:1111:1111", "2222:2222:2222:2222:2222:2222:2222:2222")
WRITER = f"""
import time
from ipaddress import ip_address
from cloud_toa.bpf import edge
from cloud_toa.option import Client, encode
from cloud_toa.ports import PortTable
memory = edge.ports()
table = PortTable(memory)
options = [encode(Client(ip_address(ip), 0x1111 * number)) for number, ip in
           enumerate({CLIENTS!r}, 1)]
print("ready", flush=True)
while True:
    for option in options:
        table.add({PORT}, option, time.monotonic_ns(), False)
"""


@pytest.mark.slow
def test_never_a_mix(lab: Lab, balancers: Path, receiver: Path) -> None:
    edge.attach([balancers], EdgeSettings(control=True))
    known = {Client(ip_address(ip), 0x1111 * number) for number, ip in enumerate(CLIENTS, 1)}
    seen = set()
    with subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        try:
            with listen(lab, receiver, SERVER) as listener:
                for _ in range(CONNECTIONS):
                    with balancer(lab, balancers, None) as sock:
                        sock.bind((EDGE_TO_ORIGIN[4], PORT))
                        reset_at_close(sock)
                        sock.connect(SERVER)
                        with listener.accept()[0] as conn:
                            seen.add(cloud_toa.client_of(conn))
        finally:
            writer.kill()
    assert seen - {None} == known
