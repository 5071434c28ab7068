# SPDX-License-Identifier: Apache-2.0
"""The node of ``cloud-toa edge run`` itself: how soon it serves, and what it needs meanwhile.

While the path is kept busy as in ``bench/connections``: without an access log, and with one,
which is most of its work then. Memory is what the process has for itself and its share of what
it has with others (Pss).
"""

import argparse
import socket
import subprocess
import sys
import time
from pathlib import Path

import edge_node
import report
from connections import load
from modes import MODES, Mode
from rounds import Spread
from testbed import Testbed

from cloud_toa.demo.lab import EDGE, stop
from cloud_toa.errors import ToaError
from cloud_toa.isolation import isolate

_PORT = 8007


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="What the node of edge run needs.")
    parser.add_argument("--rounds", type=int, default=9, help="measurements (default 9)")
    parser.add_argument("--seconds", type=int, default=5, help="length of a load (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every round there")
    parser.add_argument("--markdown", action="store_true", help="print for docs/performance.md")
    asked = parser.parse_args()
    isolate()
    found: dict[str, list[float]] = {}
    with Testbed() as testbed:
        machine = report.facts()
        for _ in range(asked.rounds):
            sample = {"start, s": start(testbed)}
            for mode in ("edge-run", "edge-run-log"):
                sample |= busy(testbed, MODES[mode], asked.seconds)
            for name, value in sample.items():
                found.setdefault(name, []).append(value)
    print(report.describe(machine), end="\n\n")
    table = report.Table("of the node", "median", "least", "most")
    for name, values in found.items():
        spread = Spread.extremes(values)
        table.add(name, *(f"{value:.3g}" for value in (spread.median, spread.low, spread.high)))
    print(table.text(asked.markdown))
    report.keep(asked.json, {"machine": machine, "rounds": found})
    return 0


def start(testbed: Testbed) -> float:
    """Seconds from the command to the first connection that is accepted."""
    file = testbed.lab.files / "edge-start.toml"
    file.write_text(edge_node.web(f"{EDGE[4]}:{_PORT}"))
    begin = time.perf_counter()
    command = [sys.executable, "-m", "cloud_toa", "edge", "run", "--config", str(file)]
    process = testbed.lab.edge.popen(command, stderr=subprocess.DEVNULL)
    try:
        with testbed.lab.edge.entered():
            while process.poll() is None:
                try:
                    socket.create_connection((EDGE[4], _PORT)).close()
                except ConnectionRefusedError:
                    # Nothing tells another's listen(); short beside what is measured.
                    time.sleep(0.002)
                    continue
                return time.perf_counter() - begin
    finally:
        stop(process)
    raise ToaError("cloud-toa edge run did not start")


def busy(testbed: Testbed, mode: Mode, seconds: int) -> dict[str, float]:
    """What the node takes while connections pass."""
    with testbed.ready(mode) as address:
        node = testbed.node[0]
        clock = ~node << 3 | 2  # clock_getcpuclockid(3)
        before, begin = time.clock_gettime(clock), time.perf_counter()
        rate = load(testbed, address, seconds, 32)["rate"]
        share = (time.clock_gettime(clock) - before) / (time.perf_counter() - begin)
        lines = Path(f"/proc/{node}/smaps_rollup").read_text().splitlines()
        pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    found = {
        "connections/s": rate,
        "processor, %": 100 * share,
        "processor for 5,000 connections/s, %": 100 * share * 5000 / rate,
        "memory, MB": pss / 1024,
    }
    return {f"{mode.title}: {what}": value for what, value in found.items()}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/edge: {error}")
