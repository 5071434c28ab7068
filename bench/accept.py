# SPDX-License-Identifier: Apache-2.0
"""What a connection costs with each receiver, in instructions, on Debian's kernels.

In a virtual machine with one processor whose clock counts instructions, so that little of
the noise of a machine is left. The sender writes the option in every mode; only who reads
it at the origin differs. Two connections are measured: the path of the other benchmarks,
with client, HAProxy, nginx, and the kernel for all three; and the least that a connection
can be, between two sockets of one program, which connects, accepts, closes, and sends
nothing: all but accepting is as little as it gets.
"""

import argparse
import os
import socket
import struct
import sys
import time

import report
import serial
import virtual_machine
from modes import MODES
from rounds import Sample, alternate
from testbed import Testbed

from cloud_toa.api import set_client
from cloud_toa.demo.lab import ORIGIN, inside
from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate
from tests.vm.machine import KERNELS

_RECEIVERS = ("unread", "toa", "kmod")
_BARE = (ORIGIN[4], 7000)
_TRIES = 8
_CONNECTIONS = 100
_RESET = struct.pack("ii", 1, 0)


def main() -> int:
    """Run the benchmark, or in the machine its part."""
    parser = argparse.ArgumentParser(description="Instructions of a connection, by receiver.")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds (default 3)")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    asked = parser.parse_args()
    if virtual_machine.is_inside():
        return measure_here(asked.rounds, markdown=asked.markdown)
    for version in KERNELS.values():
        print(virtual_machine.run(version, counted=True))
    return 0


def measure_here(rounds: int, *, markdown: bool) -> int:
    """Print what this machine's kernel needs."""
    modes = [MODES[name] for name in _RECEIVERS]
    isolate()
    with Testbed() as testbed:

        def measure(address: tuple[str, int]) -> Sample:
            with testbed.lab.client.entered():
                path = serial.one_connection(address)
            bare = min(bare_connection(testbed) for _ in range(_TRIES))
            return {
                "path": 1 / path,
                "path_thousands": path * 1e6,
                "bare": 1 / bare,
                "bare_thousands": bare * 1e6,
            }

        measured = alternate(testbed, modes, rounds, measure)
    print(f"Linux {os.uname().release}")
    for quantity, title in (("path", "client, HAProxy, nginx"), ("bare", "two sockets")):
        table = report.comparison(
            measured,
            modes,
            quantity,
            f"{title}: connections per 10⁹ instructions",
            {f"{quantity}_thousands": "1000 each"},
        )
        print(f"\n{table.text(markdown)}")
    return 0


def bare_connection(testbed: Testbed) -> float:
    """Seconds that a connection between two sockets takes, of several one after the other."""
    with testbed.lab.origin.entered(), inside(testbed.origin_cgroup):
        listener = socket.create_server(_BARE)
    with listener, testbed.lab.edge.entered(), inside(testbed.edge_cgroup):
        begin = time.perf_counter()
        for number in range(_CONNECTIONS):
            with socket.socket() as sock:
                set_client(sock, ("203.0.113.7", 1024 + number))
                # No TIME_WAIT, whose ports would be searched for.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.connect(_BARE)
                listener.accept()[0].close()
        return (time.perf_counter() - begin) / _CONNECTIONS


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/accept: {error}")
