# SPDX-License-Identifier: Apache-2.0
"""Short connections: how many per second, how long each takes, and what eBPF costs of it.

wrk asks for nginx's default page with ``Connection: close``, so a request is a connection,
to the edge and from there to the origin. Client, edge and origin share this machine's
processors, which 32 connections at a time keep busy: the rate is the inverse of all the
processor time that a connection takes. With more at a time, each process does more per
wake-up. Latency is counted from request to answer, as wrk does.
"""

import re
import sys

import cost
import report
from rounds import Sample, alternate
from testbed import Testbed

from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_COST_SECONDS = 4
_AT_A_TIME = 32
_TOLERATED = 0.001
"""Share of connections that may fail: from clients' own addresses, ports collide at times."""


def main() -> int:
    """Run the benchmark."""
    parser = report.arguments("Short connections per second, by the way to name the client.")
    parser.add_argument("--no-cost", action="store_true", help="leave out what eBPF costs")
    parser.add_argument(
        "--at-a-time",
        default=str(_AT_A_TIME),
        metavar="N,N",
        help=f"connections open at a time (default {_AT_A_TIME})",
    )
    asked = parser.parse_args()
    isolate()
    measured = {}
    with Testbed() as testbed:
        machine = report.facts()
        for at_a_time in map(int, asked.at_a_time.split(",")):

            def measure(address: tuple[str, int], at_a_time: int = at_a_time) -> Sample:
                return load(testbed, address, asked.seconds, at_a_time)

            measured[at_a_time] = alternate(testbed, asked.modes, asked.rounds, measure)

        def count(address: tuple[str, int]) -> float:
            return load(testbed, address, _COST_SECONDS, _AT_A_TIME)["connections"]

        costs = {} if asked.no_cost else cost.measure(testbed, count)
    quantities = {"p50": "p50 ms", "p99": "p99 ms", "cpu": "CPU µs/connection", "failed": "failed"}
    if any(mode.queues for mode in asked.modes):
        quantities["queued"] = "packets queued/connection"
    print(report.describe(machine))
    for at_a_time, rounds in measured.items():
        unit = f"connections/s, {at_a_time} at a time"
        print()
        print(report.comparison(rounds, asked.modes, "rate", unit, quantities).text(asked.markdown))
    if costs:
        print()
        print(cost.table(costs).text(asked.markdown))
    report.keep(asked.json, {"machine": machine, "rounds": measured, "ebpf": costs})
    return 0


def load(testbed: Testbed, address: tuple[str, int], seconds: int, at_a_time: int) -> Sample:
    """Keep the path busy for some seconds.

    Raises:
        ToaError: connections failed.
    """
    queued = testbed.queue.queued() if testbed.queue else 0
    before = testbed.cpu_time()
    said = testbed.lab.client.run(
        *("wrk", "-t1", f"-c{at_a_time}", f"-d{seconds}s", "--latency", "-H", "Connection: close"),
        f"http://{address[0]}:{address[1]}/",
    )
    used = testbed.cpu_time() - before
    connections = float(_find(r"(\d+) requests in", said)[1])
    trouble = re.findall(r"Socket errors.*|Non-2xx.*", said)
    failed = sum(int(number) for line in trouble for number in re.findall(r"\d+", line[7:]))
    if failed > connections * _TOLERATED:
        raise ToaError(f"connections failed under load: {'; '.join(trouble)}")
    return {
        "rate": float(_find(r"Requests/sec:\s+([\d.]+)", said)[1]),
        "p50": _milliseconds(r"50%\s+([\d.]+)(\w+)", said),
        "p99": _milliseconds(r"99%\s+([\d.]+)(\w+)", said),
        "cpu": used * 1e6 / connections,
        "connections": connections,
        "failed": failed,
        "queued": (testbed.queue.queued() - queued) / connections if testbed.queue else 0,
    }


def _find(pattern: str, text: str) -> "re.Match[str]":
    found = re.search(pattern, text)
    if found is None:
        raise ToaError(f"wrk said what this version does not understand: {text}")
    return found


def _milliseconds(pattern: str, text: str) -> float:
    found = _find(pattern, text)
    return float(found[1]) * _UNITS[found[2]]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/connections: {error}")
