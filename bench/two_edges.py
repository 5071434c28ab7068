# SPDX-License-Identifier: Apache-2.0
"""Two edges of one address for clients, before one origin.

A route with two next hops spreads clients over them, by the hash of their addresses and ports,
as routers do with ECMP and with anycast. Each edge connects to the origin from an address of its
own, so that answers find their edge whatever way the client's packets take::

    client --+-- edge    10.8.0.1 -- 10.9.0.1 --+-- origin
             +-- edge 2  10.8.1.1 -- 10.9.1.1 --+   10.9.0.2
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import haproxy
import paths
import told_server
from nstat import nstat

from cloud_toa.bpf import edge
from cloud_toa.config import EdgeSettings
from cloud_toa.demo.lab import CLIENTS, EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab, end_of_cable
from cloud_toa.isolation import Namespace

VIP = {4: "198.51.100.10", 6: "2001:db8:2::10"}
_TRUSTED = ("10.9.0.0/16", "fd09::/32")
"""One network for all edges, as an operator of many would write it."""
SECOND = {4: "10.8.1.1", 6: "fd08:1::1"}
SECOND_TO_ORIGIN = {4: "10.9.1.1", 6: "fd09:0:1::1"}
PORT, _SERVER = 8001, 7001
_PREFIX = {4: 32, 6: 128}


@dataclass(frozen=True)
class Edges:
    """Both edges at work before one origin."""

    lab: Lab
    hosts: tuple[Namespace, Namespace]
    balancers: Path
    """A cgroup for who opens connections in the client's network."""

    def taken(self) -> list[int]:
        """How many connections each edge's HAProxy has taken; TcpPassiveOpens."""
        return [nstat(host)["TcpPassiveOpens"] for host in self.hosts]

    def withdraw(self) -> None:
        """Let clients' packets go to the first edge alone."""
        for version in (4, 6):
            target = f"{VIP[version]}/{_PREFIX[version]}"
            self.lab.client.ip(f"route del {target}", f"route add {target} via {EDGE[version]}")

    def open_at(self, number: int) -> set[str]:
        """Clients (address port) that an edge's HAProxy has a connection with."""
        words = ("-Htn", "state", "established", "sport", f"= :{PORT}")
        lines = self.hosts[number].run("ss", *words).splitlines()
        return {" ".join(line.split()[3].rsplit(":", 1)) for line in lines}


@contextmanager
def edges(lab: Lab, *, toa: bool) -> Iterator[Edges]:
    """A second edge beside the lab's, HAProxy on both; with TOA, or as it would be without."""
    second = Namespace("edge-2")
    with ExitStack() as undo:
        undo.callback(second.remove)
        second.sysctl("net.ipv6.conf.all.accept_dad", 0)
        second.sysctl("net.ipv6.conf.default.accept_dad", 0)
        _cables(lab, second)
        lab.client.sysctl("net.ipv4.fib_multipath_hash_policy", 1)
        lab.client.sysctl("net.ipv6.fib_multipath_hash_policy", 1)
        places = [lab.cgroup("edge"), lab.cgroup("edge-2")]
        at_origin = lab.cgroup("origin")
        if toa:
            undo.callback(edge.detach)
            edge.attach(places, EdgeSettings())
            paths.receive("bpf", at_origin, undo, _TRUSTED)
        else:
            _true_transparent(lab, second)
        task = told_server.Serve([_SERVER], hold=True)
        told_server.serve(lab, task, at_origin)
        for host, own, place in ((lab.edge, EDGE, places[0]), (second, SECOND, places[1])):
            file = lab.files / f"{host.name}.cfg"
            listen = {version: [VIP[version], own[version]] for version in (4, 6)}
            file.write_text(haproxy.configuration(listen, PORT, _SERVER))
            lab.start(host, ["haproxy", "-db", "-f", str(file)], [("", PORT)], place=place)
        yield Edges(lab, (lab.edge, second), lab.cgroup("client"))


def _cables(lab: Lab, second: Namespace) -> None:
    """Two cables for the second edge, the VIP on both, and the route that spreads clients."""
    for host, device, ours, theirs in (
        (lab.client, "client", ("10.8.1.2", "fd08:1::2"), SECOND),
        (lab.origin, "origin", ("10.9.1.2", "fd09:0:1::2"), SECOND_TO_ORIGIN),
    ):
        host.ip(f"link add eth1 type veth peer name to-{device} netns {second.name}",
                *end_of_cable("eth1", *ours))  # fmt: skip
        second.ip(*end_of_cable(f"to-{device}", theirs[4], theirs[6]))
    for version, via in ((4, "10.9.1.2"), (6, "fd09:0:1::2")):
        source = SECOND_TO_ORIGIN[version]
        second.ip(f"route add {ORIGIN[version]}/{_PREFIX[version]} via {via} src {source}")
    for version, via in ((4, "10.8.1.2"), (6, "fd08:1::2")):
        second.ip(f"route add {CLIENTS[version]} via {via}")
    for version in (4, 6):
        for host in (lab.edge, second):
            host.ip(f"address add {VIP[version]}/{_PREFIX[version]} dev lo")
        lab.client.ip(f"route add {VIP[version]}/{_PREFIX[version]} "
                      f"nexthop via {EDGE[version]} nexthop via {SECOND[version]}")  # fmt: skip


def _true_transparent(lab: Lab, second: Namespace) -> None:
    """Answers to clients go to the edge's own sockets; the origin's route knows one edge."""
    for version in (4, 6):
        for host in (lab.edge, second):
            ip = ("ip", f"-{version}")
            host.run(*ip, *["rule", "add", "iif", "to-origin", "lookup", "100"])
            host.run(*ip, *["route", "add", "local", "default", "dev", "lo", "table", "100"])
        lab.origin.ip(f"route add {CLIENTS[version]} via {EDGE_TO_ORIGIN[version]}")
