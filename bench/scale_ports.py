# SPDX-License-Identifier: Apache-2.0
"""How many connections an edge's address can have to an origin's address and port, and then?

TCP tells connections apart by both addresses and ports, so between two addresses and to one
port there are as many as the edge has ports. A small range of ports is filled; then one more
connection is tried, and those that may help. The queue leaves ports to NAT, which has a range
of its own that no setting narrows, and is filled whole.
"""

import argparse
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import figures
import held
import paths
import report
import told_server
from experiment import Experiment, some_of
from matplotlib.axes import Axes
from testbed import require

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab

_PORTS = (7001, 7002)
_SECOND_EDGE, _SECOND_ORIGIN = "10.9.0.3", "10.9.0.4"
_FIRST = 20_000
_NAT_PORTS = 65_536 - 1024
"""From 1024 on: nf_nat_core.c, for a port that is not below 1024."""
_PATIENCE = 4.0
_NO_PORTS = "EADDRNOTAVAIL"
_FEW = 2000
"""So many more are tried as NAT has ports, for it gives up before it has tried every port."""


@dataclass(frozen=True)
class Way:
    """How the load balancer connects."""

    title: str
    sender: str = ""
    source: held.Address | None = None


WAYS = {
    "bound": Way("bind(edge, port 0), no TOA", source=(EDGE_TO_ORIGIN[4], 0)),
    "plain": Way("connect(), no TOA"),
    "bpf": Way("TOA by eBPF", sender="bpf"),
    "queue": Way("TOA by the queue", sender="queue"),
}
_ALL = (*WAYS, "haproxy")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--ports", type=int, default=200,
                        help="of the edge, but for the queue's way (default 200)")  # fmt: skip
    parser.add_argument("--ways", type=some_of(_ALL), default=",".join(_ALL), metavar="NAME,NAME",
                        help=f"of {', '.join(_ALL)} (default all)")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """Every way, and what HAProxy says."""
    require({"haproxy": "haproxy"})
    held.more_files()
    for name in asked.ways:
        yield _haproxy(asked.ports) if name == "haproxy" else _fill(name, asked.ports)


def _fill(name: str, ports: int) -> figures.Row:
    way = WAYS[name]
    most = _NAT_PORTS if way.sender == "queue" else ports
    with Lab() as lab, ExitStack() as undo:
        at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
        _range(lab, ports if most == ports else 0)
        lab.edge.ip(f"address add {_SECOND_EDGE}/24 dev to-origin")
        lab.origin.ip(f"address add {_SECOND_ORIGIN}/24 dev eth0")
        paths.receive("bpf", at_origin, undo, [EDGE_TO_ORIGIN[4], _SECOND_EDGE])
        for _ in range(1 + (most + _FEW) // held.EACH):
            told_server.serve(lab, told_server.Serve(list(_PORTS), hold=True), at_origin)
        counters: Callable[[], paths.Counters] = dict
        if way.sender:
            counters = undo.enter_context(
                paths.send(lab, way.sender, at_edge, [ORIGIN[4], _SECOND_ORIGIN])
            )
        server = (ORIGIN[4], _PORTS[0])
        named = bool(way.sender)
        holders, refused, seen = [], "", 0
        while not refused and seen < most + _FEW:
            count = min(held.EACH, most + _FEW - seen)
            task = held.Hold(seen, count, server, named, way.source, _PATIENCE)
            holders.append(held.Holder(lab.edge, at_edge, task))
            found = holders[-1].held()
            refused = found.error
            seen += sum(found.seen.values())
        balancer = held.Balancer(lab.edge, at_edge, named, way.source, _PATIENCE)
        clients = held.clients(2 * _NAT_PORTS)
        before = counters()

        def one(to: held.Address) -> str:
            return _seen(balancer.try_one(next(clients), to))

        begun = time.monotonic()
        again = one(server)
        seconds = time.monotonic() - begun
        now = counters()
        row = {
            "what": f"{way.title}, Linux {report.kernel()}",
            "way": name,
            "ports": most,
            "held": seen,
            "refused": refused,
            "one_more": again,
            "seconds": seconds,
            "counted": _more(before, now),
            "other_port": one((ORIGIN[4], _PORTS[1])),
            "other_origin": one((_SECOND_ORIGIN, _PORTS[0])),
        }
        if way.sender != "queue":
            _range(lab, 2 * ports)
            row["wider"] = one(server)
            _range(lab, ports)
        if way.source:
            balancer.source = (_SECOND_EDGE, 0)
        else:
            lab.edge.ip(f"route add {ORIGIN[4]}/32 dev to-origin src {_SECOND_EDGE}")
        row["other_edge"] = one(server)
        # Those held are still their clients'.
        row["held_right"] = sum(holder.end().get("right", 0) for holder in holders)
        return row


def _haproxy(ports: int) -> figures.Row:
    """Fill the range through HAProxy; what its next client gets, and what it logs."""
    with Lab() as lab, ExitStack() as undo:
        at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
        _range(lab, ports)
        paths.receive("bpf", at_origin, undo)
        told_server.serve(lab, told_server.Serve([_PORTS[0]], hold=True), at_origin)
        counters = undo.enter_context(paths.send(lab, "bpf", at_edge))
        log = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        log.bind(str(lab.files / "log"))
        file = lab.files / "haproxy.cfg"
        file.write_text(_HAPROXY.format(log=lab.files / "log"))
        lab.start(lab.edge, ["haproxy", "-db", "-f", str(file)], [("", _LISTEN[1])], place=at_edge)
        answers = [_visit(undo.enter_context(lab.connect(_CLIENT, _LISTEN))) for _ in range(ports)]
        before = counters()
        begun = time.monotonic()
        with lab.connect(_CLIENT, _LISTEN) as sock:
            more = _visit(sock)
        seconds = time.monotonic() - begun
        now = counters()
        log.settimeout(_PATIENCE)
        says: dict[str, int] = {}
        while line := _logged(log):
            says[line] = says.get(line, 0) + 1
            log.settimeout(0.5)
        return {
            "what": f"HAProxy with TOA by eBPF, Linux {report.kernel()}",
            "way": "haproxy",
            "ports": ports,
            "held": len(answers),
            "held_right": answers.count("right"),
            "one_more": more,
            "seconds": seconds,
            "counted": _more(before, now),
            "says": says,
        }


_CLIENT = ("203.0.113.7", 0)
_LISTEN = (EDGE[4], 8001)
_HAPROXY = f"""
global
  maxconn 4000
  log {{log}} local0 err
defaults
  mode tcp
  log global
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen web
  bind {_LISTEN[0]}:{_LISTEN[1]}
  source 0.0.0.0 usesrc client
  server origin {ORIGIN[4]}:{_PORTS[0]}
"""


def _visit(sock: socket.socket) -> str:
    """Say whose it is; what the server saw, or what became of the connection."""
    sock.settimeout(30)
    try:
        sock.sendall("{} {}\n".format(*sock.getsockname()).encode())
        answer = sock.recv(128).decode().split()
    except OSError as error:
        return held.name_of(error)
    return answer[-1] if answer else "closed"


def _logged(log: socket.socket) -> str:
    """A line of HAProxy's log without its time; empty where there is none."""
    try:
        return re.sub(r"^<\d+>.*?haproxy\[\d+\]: ", "", log.recv(4096).decode().strip())
    except TimeoutError:
        return ""


def _range(lab: Lab, ports: int) -> None:
    """Let the edge's connections come from so many ports; 0: from as many as there are."""
    wanted = f"{_FIRST} {_FIRST + ports - 1}" if ports else "1024 65535"
    lab.edge.sysctl("net.ipv4.ip_local_port_range", wanted)


def _more(before: paths.Counters, now: paths.Counters) -> paths.Counters:
    return {name: now[name] - before[name] for name in now if now[name] != before[name]}


def _seen(answer: str) -> str:
    """What it is to a reader: a connection that is its client's, the edge's, or an error."""
    return "the edge" if answer in (EDGE_TO_ORIGIN[4], _SECOND_EDGE) else answer


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Every client is its own, the range is used whole, and all but the full one goes on."""
    found = []
    for row in rows:
        wanted = "right" if row["way"] in ("bpf", "queue", "haproxy") else "the edge"
        if wanted == "right" and row["held_right"] < row["held"]:
            found.append(f"{row['what']}: {row['held'] - row['held_right']} not their clients'")
        # NAT tries ports at random: of two SYNs, one may find the last.
        full = row.get("refused") if row["way"] == "queue" else row["one_more"] != wanted
        if not full:
            found.append(f"{row['what']}: never full")
        if row["way"] in ("plain", "bpf", "haproxy") and row["held"] < row["ports"]:
            found.append(f"{row['what']}: {row['held']} of {row['ports']} ports")
        if row["way"] in ("plain", "bpf"):
            found += [
                f"{row['what']}: {key}: {row[key]}"
                for key in ("other_port", "other_origin", "other_edge", "wider")
                if row[key] != wanted
            ]
            if row["one_more"] != _NO_PORTS:
                found.append(f"{row['what']}: full, and {row['one_more']} instead of {_NO_PORTS}")
        # Named, and nothing begun.
        if row["way"] == "bpf" and set(row["counted"]) != {"clients"}:
            found.append(f"{row['what']}: counted {row['counted']} where ports had run out")
        if row["way"] == "haproxy" and not any("no free ports" in line for line in row["says"]):
            found.append(f"{row['what']}: says {row['says']}")
    return found


def _says(row: figures.Row) -> str:
    said = [f"{count} × “{line}”" for line, count in row.get("says", {}).items()]
    said += [f"{name} +{count}" for name, count in row["counted"].items()]
    return ", ".join(said) or "–"


def _draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
    figures.bars(
        lambda row: 100 * row["held"] / row["ports"],
        "ports in use when a connection was refused, %",
        label=lambda row: f"{row['held']:,} of {row['ports']:,}, then {row['one_more']}",
    )(axes, titles, rows)
    axes.margins(x=0.3)


EXPERIMENT = Experiment(
    command="bench/scale ports",
    name="scale-ports",
    title="Connections at a time from one address of an edge to one address and port",
    words=f"""
So many ports are the edge's (`net.ipv4.ip_local_port_range`; the queue's are NAT's, 1024 to
65535), each to hold one connection to one origin's address and port. When a connection is
refused, *one more* is tried, then what may help: another port and another address of the origin,
a range twice as wide, and another address of the edge (the route's `src`, or the address that
the load balancer binds to). “right”: its server saw its client; “the edge”: the edge, as without
TOA; “no answer”: in {_PATIENCE:g} s. *Counted* is by how much the sender's counters grew for the
one more, and what HAProxy logged.
""",
    arguments=arguments,
    measure=measure,
    columns={
        "connections": lambda row: f"{row['held']:,}",
        "of ports": lambda row: f"{row['ports']:,}",
        "one more": lambda row: row["one_more"],
        "after, s": lambda row: f"{row['seconds']:.1f}",
        "counted": _says,
        "other origin port": lambda row: row.get("other_port", "–"),
        "other origin address": lambda row: row.get("other_origin", "–"),
        "wider range": lambda row: row.get("wider", "–"),
        "other edge address": lambda row: row.get("other_edge", "–"),
    },
    draw=_draw,
    faults=faults,
    versions=report.versions_of("haproxy", "nftables"),
)
