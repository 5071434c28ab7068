# SPDX-License-Identifier: Apache-2.0
"""A queue of this kernel: taken while packets come already, as when a worker starts again."""

import os
import signal
import sys

import pytest

from cloud_toa.errors import ToaError
from cloud_toa.isolation import Namespace
from cloud_toa.nfqueue.queue import STRIDE, Queue, parse
from tests.nfqueue.conftest import network

__all__ = ["network"]

TAKES = 200
FLOOD = """
import socket
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect(("127.0.0.1", 9))
while True:
    try:
        sock.send(b"x")
    except OSError:
        pass  # nobody listens
"""


def take() -> str:
    """Take queue 1 in a process of its own, and let a packet go; what became of it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = "failed"
        try:
            queue = Queue(1)
            for at in range(0, queue.receive() * STRIDE, STRIDE):
                packet, _, start, end = parse(queue.memory, at)
                assert packet
                assert end - start in (0, 29)  # IPv4, UDP and a byte
                queue.answer([queue.verdict(packet)])
            said = "ok"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    said = os.read(read, 4096).decode()
    os.close(read)
    os.waitpid(child, 0)
    return said


def test_taken_while_packets_come(network: Namespace) -> None:
    rule = "-A OUTPUT -p udp -j NFQUEUE --queue-num 1 --queue-bypass"
    network.run("iptables", *rule.split())
    flood = network.popen([sys.executable, "-c", FLOOD])
    try:
        with network.entered():
            assert {take() for _ in range(TAKES)} == {"ok"}
    finally:
        flood.send_signal(signal.SIGKILL)
        flood.wait()


def test_another_has_it(network: Namespace) -> None:
    first = Queue(7)
    with pytest.raises(ToaError, match="queue 7 can't be had: another program has it"):
        Queue(7)
    first.close()
    Queue(7).close()


def test_without_privilege(network: Namespace) -> None:
    program = "from cloud_toa.nfqueue.queue import Queue; Queue(1)"
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"]
    process = network.popen([*drop, sys.executable, "-c", program])
    assert process.wait(60) == 1
