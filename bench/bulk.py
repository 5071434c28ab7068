# SPDX-License-Identifier: Apache-2.0
"""Bulk: how much passes through a connection that is there, in Gbit/s.

A client asks nginx for the same file again and again on one connection (or several),
and reads. The requests are all sent at once, so that nothing waits for a round trip.
"""

import socket
import sys
import threading
import time
from contextlib import ExitStack

import report
from rounds import Sample, alternate
from testbed import FILE_SIZE, Testbed

from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate

_REQUEST = b"GET /file HTTP/1.1\r\nHost: origin\r\n\r\n"
_FASTEST = 100e9 / 8
"""Bytes per second that no stream reaches: how many requests are enough."""
_CHUNK = 1 << 20
_SETTLE = 0.3
"""Seconds until TCP has found its speed."""


def main() -> int:
    """Run the benchmark."""
    parser = report.arguments("Gbit/s to the client, by the way to name it.")
    parser.add_argument(
        "--streams", default="1,4", metavar="N,N", help="connections at a time (default 1,4)"
    )
    asked = parser.parse_args()
    isolate()
    measured = {}
    with Testbed() as testbed:
        machine = report.facts()
        for streams in map(int, asked.streams.split(",")):

            def measure(address: tuple[str, int], streams: int = streams) -> Sample:
                before = testbed.cpu_time()
                rate = download(testbed, address, streams, asked.seconds)
                used = testbed.cpu_time() - before
                share = asked.seconds / (asked.seconds + _SETTLE)
                return {"gbits": rate, "cpu": used * share / (rate * asked.seconds / 8)}

            measured[streams] = alternate(testbed, asked.modes, asked.rounds, measure)
    quantities = {"cpu": "CPU s/GB"}
    print(report.describe(machine))
    for streams, rounds in measured.items():
        unit = f"Gbit/s by {streams} stream{'s' if streams > 1 else ''}"
        print()
        print(
            report.comparison(rounds, asked.modes, "gbits", unit, quantities).text(asked.markdown)
        )
    report.keep(asked.json, {"machine": machine, "rounds": measured})
    return 0


def download(testbed: Testbed, address: tuple[str, int], streams: int, seconds: float) -> float:
    """Read by several connections for some seconds; answer Gbit/s of all together.

    Raises:
        ToaError: one of them ended.
    """
    requests = _REQUEST * (int(_FASTEST * (seconds + 2 * _SETTLE) / FILE_SIZE) + 1)
    begin = time.monotonic() + _SETTLE
    end = begin + seconds
    received = [0] * streams
    with ExitStack() as open_sockets:
        readers = []
        for number in range(streams):
            sock = open_sockets.enter_context(testbed.lab.connect(("0.0.0.0", 0), address))
            sock.sendall(requests)
            arguments = (sock, begin, end, received, number)
            readers.append(threading.Thread(target=_read, args=arguments))
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    if not all(received):
        raise ToaError(f"a connection ended before its {seconds} s")
    return sum(received) * 8 / seconds / 1e9


def _read(sock: socket.socket, begin: float, end: float, received: list[int], number: int) -> None:
    """Read until the end; say how much since the beginning, 0 if the connection ended."""
    buffer = bytearray(_CHUNK)
    total = 0
    while (now := time.monotonic()) < end:
        size = sock.recv_into(buffer)
        if size == 0:
            return
        if now >= begin:
            total += size
    received[number] = total


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/bulk: {error}")
