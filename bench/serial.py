# SPDX-License-Identifier: Apache-2.0
"""One thing at a time on one processor: what a connection costs, to the half microsecond.

Client, edge and origin are held on the same processor, so whatever any of them does adds
to the time that the client sees, and nothing is hidden by what runs beside it. That makes
small differences visible which are lost in the noise of a busy machine; it is no measure
of how many connections a machine can take, as a loaded server does several per wake-up.
Of several tries per round the fastest counts: the others were interrupted.
"""

import os
import socket
import sys
import time

import report
from rounds import Sample, alternate
from testbed import FILE_SIZE, Testbed

from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate

_TRIES = 8
_CONNECTIONS = 100
_WARM_UP = 50
_FILES = 10
_PAGE = b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n"
_FILE = b"GET /file HTTP/1.1\r\nHost: origin\r\n\r\n"
_ALL = os.sched_getaffinity(0)
_ONE = {min(_ALL)}


def main() -> int:
    """Run the benchmark."""
    parser = report.arguments("What a connection costs one processor, one after the other.")
    asked = parser.parse_args()
    isolate()
    with Testbed() as testbed:
        machine = report.facts()
        testbed.pin(_ONE)

        def measure(address: tuple[str, int]) -> Sample:
            # What prepares a mode runs elsewhere, and has ended.
            os.sched_setaffinity(0, _ONE)
            try:
                with testbed.lab.client.entered():
                    connection = one_connection(address)
                    file = download(address)
            finally:
                os.sched_setaffinity(0, _ALL)
            return {
                "rate": 1 / connection,
                "us": connection * 1e6,
                "gbits": FILE_SIZE * 8 / file / 1e9,
            }

        rounds = alternate(testbed, asked.modes, asked.rounds, measure)
    print(report.describe(machine), end="\n\n")
    for quantity, unit, rest in (
        ("rate", "connections/s, one by one", {"us": "µs/connection"}),
        ("gbits", "Gbit/s on one processor", {}),
    ):
        print(report.comparison(rounds, asked.modes, quantity, unit, rest).text(asked.markdown))
        print()
    report.keep(asked.json, {"machine": machine, "rounds": rounds})
    return 0


def connect(address: tuple[str, int]) -> None:
    """Ask for a page and read it to its end.

    Raises:
        ToaError: nothing came.
    """
    with socket.create_connection(address) as sock:
        sock.sendall(_PAGE)
        if not sock.recv(1 << 16):
            raise ToaError("a connection ended without an answer")
        while sock.recv(1 << 16):
            pass


def one_connection(address: tuple[str, int]) -> float:
    """Seconds that a connection takes, after some to warm up: of several tries, the fastest."""
    for _ in range(_WARM_UP):
        connect(address)
    return min(_seconds(address) for _ in range(_TRIES))


def _seconds(address: tuple[str, int]) -> float:
    """How long one connection takes, of several one after the other."""
    begin = time.perf_counter()
    for _ in range(_CONNECTIONS):
        connect(address)
    return (time.perf_counter() - begin) / _CONNECTIONS


def download(address: tuple[str, int]) -> float:
    """Seconds for the file over a connection that is there: of several, the fastest.

    Raises:
        ToaError: the connection ended.
    """
    buffer = bytearray(1 << 20)
    fastest = float("inf")
    with socket.create_connection(address) as sock:
        for _ in range(_FILES):
            begin = time.perf_counter()
            sock.sendall(_FILE)
            left = FILE_SIZE
            while left > 0:
                size = sock.recv_into(buffer)
                if size == 0:
                    raise ToaError("the connection ended before the file")
                left -= size
            # The answer's header is counted as file: some 250 bytes of its end stay behind.
            fastest = min(fastest, time.perf_counter() - begin)
    return fastest


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/serial: {error}")
