# SPDX-License-Identifier: Apache-2.0
"""Every way to name the client to a server that knows nothing of it, and what each promises.

One HAProxy has a listener for each server and each kind of connection to it: its own, one
from the client's address, one that begins with a PROXY header, and one with that header to a
go-mmproxy beside the server. What else a way needs, such as routing, is there while it is used.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paths
from unmodified import Server

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab

CLIENT, BALANCER, FAILS = "sees the client", "sees the load balancer", "fails"

_KINDS = ("plain", "client", "proxy", "mmproxy")
_TABLE = "100"
_TO_HAPROXY = ("iif", "to-origin")
_TO_MMPROXY = {4: ("from", "127.0.0.1/8", "iif", "lo"), 6: ("from", "::1/128", "iif", "lo")}
_MORE = 10000
"""From a server's port to its go-mmproxy's."""


@dataclass(frozen=True)
class Way:
    """How the client is named: by what kind of connection, sender, receiver; what comes of it."""

    title: str
    kind: str
    promise: str
    sender: str = ""
    receiver: str = ""


WAYS = {
    "plain": Way("no client address", "plain", BALANCER),
    "proxy-v2": Way("PROXY v2, server not told", "proxy", FAILS),
    "transparent": Way("true transparent (HAProxy, routing)", "client", CLIENT),
    "go-mmproxy": Way("PROXY v2 + go-mmproxy", "mmproxy", CLIENT),
    "unread": Way("TOA, no receiver", "client", BALANCER, "bpf"),
    "toa": Way("TOA by eBPF", "client", CLIENT, "bpf", "bpf"),
    "queue": Way("TOA by queue, read by eBPF", "client", CLIENT, "queue", "bpf"),
    "kmod": Way("TOA by eBPF, read by toa.ko", "client", CLIENT, "bpf", "kmod"),
}


class Edge:
    """A HAProxy with listeners for every kind and server, and what ways need beside it."""

    def __init__(self, lab: Lab, servers: Sequence[Server], at_origin: Path) -> None:
        self._lab, self._at_origin, self._at_edge = lab, at_origin, lab.cgroup("edge")
        self._servers = servers
        # Where connections come from the clients' own addresses, answers pass the edge.
        for version in (4, 6):
            route = ("ip", f"-{version}", "route", "add")
            lab.origin.run(*route, "default", "via", EDGE_TO_ORIGIN[version])
            for host in (lab.edge, lab.origin):
                host.run(*route, "local", "default", "dev", "lo", "table", _TABLE)
        for server in servers:
            to = ("-4", f"127.0.0.1:{server.port}", "-6", f"[::1]:{server.port}")
            port = server.port + _MORE
            lab.start(lab.origin, ["go-mmproxy", "-l", f"[::]:{port}", *to], [("", port)])
        config = lab.files / "haproxy.cfg"
        config.write_text("\n".join(self._config()) + "\n")
        ports = [("", self.port(kind, server)) for kind in _KINDS for server in servers]
        lab.start(lab.edge, ["haproxy", "-db", "-f", str(config)], ports, place=self._at_edge)

    def port(self, kind: str, server: Server) -> int:
        """HAProxy's, of both families."""
        return 20000 + 100 * _KINDS.index(kind) + self._servers.index(server)

    @contextmanager
    def ready(self, way: Way) -> Iterator[None]:
        """Have what the way needs."""
        with ExitStack() as undo:
            if way.receiver:
                paths.receive(way.receiver, self._at_origin, undo)
            if way.sender:
                undo.enter_context(paths.send(self._lab, way.sender, self._at_edge))
            elif way.kind in ("client", "mmproxy"):
                for version in (4, 6):
                    self._rule("add", way.kind, version)
                    undo.callback(self._rule, "del", way.kind, version)
            yield

    def _rule(self, verb: str, kind: str, version: int) -> None:
        """What the server answers goes to who connected from the client's address."""
        host, which = (
            (self._lab.edge, _TO_HAPROXY)
            if kind == "client"
            else (self._lab.origin, _TO_MMPROXY[version])
        )
        host.run("ip", f"-{version}", "rule", verb, *which, "table", _TABLE)

    def _config(self) -> Iterator[str]:
        yield from ("defaults", "  mode tcp", "  timeout connect 10s")
        yield from ("  timeout client 1m", "  timeout server 1m")
        for kind in _KINDS:
            for server in self._servers:
                for version, any_source in ((4, "0.0.0.0"), (6, ":::0")):
                    port = self.port(kind, server)
                    yield f"listen {kind}-{port}-{version}"
                    yield f"  bind {EDGE[version]}:{port}"
                    if kind == "client":
                        yield f"  source {any_source} usesrc client"
                    to = server.port + (_MORE if kind == "mmproxy" else 0)
                    header = " send-proxy-v2" if kind in ("proxy", "mmproxy") else ""
                    yield f"  server origin {ORIGIN[version]}:{to}{header}"
