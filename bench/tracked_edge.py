# SPDX-License-Identifier: Apache-2.0
"""An edge with the queue datapath before its origin, and what its conntrack has of both sides."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import held
import paths
import told_server

from cloud_toa.demo.lab import EDGE, ORIGIN, Lab

SERVER = (ORIGIN[4], 7001)
ENDS = (ORIGIN[4], 7002)
"""Here the server closes first, as soon as it has answered."""
FRONT = (EDGE[4], 8001)
PATIENCE = 3.0
"""Seconds for a connection."""
_COUNT = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_LIST = Path("/proc/thread-self/net/nf_conntrack")
# What a firewall has: a table that looks at connections, so that all are tracked.
_FIREWALL = (
    "table inet others { chain input { type filter hook input priority 0; "
    "ct state invalid drop; }; }"
)


@dataclass(frozen=True)
class Edge:
    """An edge with the queue datapath, before its origin."""

    lab: Lab
    origin: held.Balancer
    """Connections to the origin, each for a client."""
    front: held.Balancer
    """Clients' connections to the edge itself."""

    def entries(self) -> int:
        """In the edge's conntrack."""
        with self.lab.edge.entered():
            return int(_COUNT.read_text())

    def listed(self) -> int:
        """Entries that are not over; the kernel sweeps others that it comes across meanwhile."""
        with self.lab.edge.entered():
            return len(_LIST.read_text().splitlines())


@contextmanager
def tracked_edge(*, firewall: bool = False) -> Iterator[Edge]:
    """Have it at work, alone on its host or beside a firewall."""
    with Lab() as lab, ExitStack() as undo:
        at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
        paths.receive("bpf", at_origin, undo)
        told_server.serve(lab, told_server.Serve([SERVER[1]], hold=True), at_origin)
        told_server.serve(lab, told_server.Serve([ENDS[1]]), at_origin)
        told_server.serve(lab, told_server.Serve([FRONT[1]], hold=True), None, lab.edge)
        if firewall:
            lab.edge.run("nft", _FIREWALL)
        undo.enter_context(paths.send(lab, "queue", at_edge, [ORIGIN[4]]))
        edge = Edge(
            lab,
            held.Balancer(lab.edge, at_edge, named=True, patience=PATIENCE),
            held.Balancer(lab.client, lab.cgroup("client"), named=True, patience=PATIENCE),
        )
        undo.callback(edge.origin.close)
        undo.callback(edge.front.close)
        yield edge
