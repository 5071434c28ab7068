# SPDX-License-Identifier: Apache-2.0
"""How soon a cluster's settings reach many nodes, and what an API server needs meanwhile.

Server, store and nodes share this machine, so the nodes' own work is in the figures; TLS is
spoken on every connection, and each node has two. Times are from the moment at which an operator's
browser begins to save. ``told`` is when a node has the settings, ``seen`` is when the API shows
that all nodes have said so.
"""

import argparse
import json
import os
import resource
import selectors
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cluster_server
import report
from cluster_server import STORES, Server

from cloud_toa.errors import ToaError

_PROCESSES = 2
_PATIENCE = 120.0
_TEXT = """
[[service]]
name = "service-{number}"
listen = ["0.0.0.0:{port}"]
[[service.origin]]
address = "192.0.2.1"
port = 443
[[service.origin]]
address = "192.0.2.2"
port = 443
[[service.origin]]
address = "192.0.2.3"
port = 443
"""


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="How soon settings reach a cluster's nodes.")
    parser.add_argument("--nodes", type=int, default=1000, help="how many (default 1000)")
    parser.add_argument("--rounds", type=int, default=10, help="changes (default 10)")
    parser.add_argument("--stores", default="sqlite,etcd", help="default sqlite,etcd")
    parser.add_argument("--idle", type=int, default=60, help="seconds of rest (default 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every figure there")
    parser.add_argument("--markdown", action="store_true", help="print for docs/performance.md")
    asked = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    machine = report.facts()
    print(report.describe(machine), end="\n\n")
    found = {name: measure(name, asked) for name in asked.stores.split(",")}
    table = report.Table(f"{asked.nodes} nodes", *found)
    for title, quantity in _ROWS.items():
        table.add(title, *(quantity(each) for each in found.values()))
    print(table.text(asked.markdown))
    report.keep(asked.json, {"machine": machine, "stores": found})
    return 0


_ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "told, median, s": lambda found: f"{statistics.median(_all(found)):.3f}",
    "told, p99, s": lambda found: f"{_percentile(_all(found), 99):.3f}",
    "told, longest, s": lambda found: f"{max(_all(found)):.3f}",
    "told, p99 of the worst round, s": lambda found: (
        f"{max(_percentile(each, 99) for each in found['told']):.3f}"
    ),
    "seen, median of rounds, s": lambda found: f"{statistics.median(found['seen']):.2f}",
    "seen, longest, s": lambda found: f"{max(found['seen']):.2f}",
    "all had joined after, s": lambda found: f"{found['joined']:.1f}",
    "server at rest, % of a processor": lambda found: f"{found['processor']:.1f}",
    "server at rest, memory, MB": lambda found: f"{found['memory']:.0f}",
    "store's processes at rest, %": lambda found: f"{found['store_processor']:.1f}",
    "store's processes, memory, MB": lambda found: f"{found['store_memory']:.0f}",
}


def _all(found: dict[str, Any]) -> list[float]:
    return [each for told in found["told"] for each in told]


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def measure(store: str, asked: argparse.Namespace) -> dict[str, Any]:
    """With one of the stores."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="toa-bench-")))
        url, others = undo.enter_context(STORES[store](folder))
        server = Server(folder, url)
        undo.callback(server.close)
        begin = time.monotonic()
        told = Told(undo, server, folder, asked.nodes)
        told.all_of(0)
        joined = time.monotonic() - begin
        _say(f"{store}: {asked.nodes} nodes have joined after {joined:.1f} s")
        rounds: list[list[float]] = []
        seen = []
        for number in range(asked.rounds + 1):
            text = "".join(_TEXT.format(number=at, port=8000 + at) for at in range(5))
            before = server.call("GET", "/api/settings")["number"]
            text = f"# round {number}\n{text}"
            begin = time.monotonic()
            saved = server.call("PUT", "/api/settings", {"text": text, "seen": before})["number"]
            at = told.all_of(saved)
            _until_seen(server, saved)
            if number:  # the first warms up
                rounds.append([each - begin for each in at])
                seen.append(time.monotonic() - begin)
            _say(f"{store}: round {number}, last node told after {max(at) - begin:.3f} s")
        told.rest(5)
        before_server, before_store = (
            cluster_server.processor(pids) for pids in ([server.pid], others)
        )
        told.rest(asked.idle)
        return {
            "told": rounds,
            "seen": seen,
            "joined": joined,
            "processor": 100
            * (cluster_server.processor([server.pid]) - before_server)
            / asked.idle,
            "memory": cluster_server.memory([server.pid]),
            "store_processor": 100 * (cluster_server.processor(others) - before_store) / asked.idle,
            "store_memory": cluster_server.memory(others),
        }


def _until_seen(server: Server, revision: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        nodes = server.call("GET", "/api/nodes")
        there = [node["status"] for node in nodes if node["status"]]
        if sum(status["applied"]["revision"] == revision for status in there) == len(nodes):
            return
        if time.monotonic() > deadline:
            raise ToaError(f"after {_PATIENCE:.0f} s not all nodes have said that they have it")
        time.sleep(0.5)  # to ask keeps the server busy for a while


class Told:
    """Processes of nodes, and what they were told."""

    def __init__(self, undo: ExitStack, server: Server, folder: Path, count: int) -> None:
        token = folder / "token"
        made = server.call("POST", "/api/nodes/join-tokens", {"uses": count})
        token.write_text(made["token"])
        self._count = count
        self._selector = undo.enter_context(selectors.DefaultSelector())
        self._times: dict[int, list[float]] = {}
        self._unread: dict[int, bytes] = {}
        share = -(-count // _PROCESSES)
        for first in range(0, count, share):
            said = {
                "url": server.url, "ca": str(server.ca), "token_file": str(token),
                "folder": str(folder / "nodes"), "first": first, "count": min(share, count - first),
            }  # fmt: skip
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("cluster_nodes.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            undo.callback(_end, process)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{json.dumps(said)}\n".encode())
            process.stdin.close()
            self._selector.register(process.stdout, selectors.EVENT_READ)

    def all_of(self, revision: int) -> list[float]:
        """When each node was told this revision, once all were."""
        deadline = time.monotonic() + _PATIENCE
        while len(self._times.get(revision, [])) < self._count:
            left = deadline - time.monotonic()
            if left <= 0:
                had = len(self._times.get(revision, []))
                raise ToaError(f"{had} of {self._count} nodes were told {revision}")
            self._hear(left)
        return self._times[revision]

    def rest(self, seconds: float) -> None:
        """Nothing happens."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._hear(left)

    def _hear(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, 1 << 16)
            if not data:
                raise ToaError("a process of nodes has ended")
            *lines, self._unread[key.fd] = (self._unread.get(key.fd, b"") + data).split(b"\n")
            for line in lines:
                for revision, at in json.loads(line)["seen"]:
                    self._times.setdefault(revision, []).append(at)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToaError as error:
        sys.exit(f"bench/cluster: {error}")
