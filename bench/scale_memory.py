# SPDX-License-Identifier: Apache-2.0
"""What a held connection takes in the kernel, and how much more it takes with TOA.

Both ends are sockets of this machine, with nothing else around them (held.py). Ways differ in
one thing, so their difference is that thing's: the sender's at the edge, the receiver's at the
origin. It is read from the kernel's caches, as all that TOA keeps is in them.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import figures
import held
import paths
import report
import told_server
from experiment import Experiment, some_of
from matplotlib.axes import Axes

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, ORIGIN, Lab
from cloud_toa.errors import ToaError

_PORT = 7001
"""The first server's; each has its own."""
_WARM = 500
_SETTLE = 3.0
"""Seconds until what was freed has been given back: RCU."""
_MANY = 10_000_000
_GIB = 1 << 30
_NOISE = 0.8
"""Objects of a connection: what a cache grows by less, others on this machine may have done."""
_KEPT_IN = ("kmalloc-", "nf_conntrack", "toa", "TCP", "tw_sock_TCP", "eventpoll_epi", "tcp_bind")
"""Beginnings of the names of caches in which something is kept of a connection. Files, paths and
processes have others: a connection's are the same in every way, those of other programs are not."""
_LINEAR = 0.05
"""Of a connection's bytes: how much numbers of connections may differ."""


@dataclass(frozen=True)
class Way:
    """Sender and receiver, and the way that has all but what this one adds."""

    title: str
    sender: str = ""
    receiver: str = ""
    base: str = ""


WAYS = {
    "plain": Way("no TOA"),
    "bpf": Way("eBPF sender", sender="bpf", base="plain"),
    "bpf-bpf": Way("eBPF receiver", sender="bpf", receiver="bpf", base="bpf"),
    "bpf-kmod": Way("toa.ko", sender="bpf", receiver="kmod", base="bpf"),
    "queue": Way("queue", sender="queue", base="plain"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--connections", type=_numbers, default="10000,100000", metavar="N,N",
                        help="held at a time (default 10000,100000)")  # fmt: skip
    parser.add_argument("--ways", type=some_of(WAYS), default="plain,bpf,bpf-bpf,queue",
                        metavar="NAME,NAME", help=f"of {', '.join(WAYS)}; each after its base "
                        "(default all but bpf-kmod, which needs --vm)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3, help="medians are of these (default 3)")


def measure(asked: argparse.Namespace) -> list[figures.Row]:
    """Every way with every number of connections."""
    for name in asked.ways:
        if (base := WAYS[name].base) and base not in asked.ways:
            raise ToaError(f"--ways: {name} is compared with {base}, which is missing")
    held.more_files()
    rows = []
    for number in asked.connections:
        rounds: dict[str, list[Memory]] = {name: [] for name in asked.ways}
        kept: set[str] = set()
        for turn in range(asked.rounds):
            for name in asked.ways:
                rounds[name].append(of_connections(WAYS[name], number, kept))
                print(f"{WAYS[name].title}, {number:,}, round {turn + 1}", file=sys.stderr)
        each = {name: _medians(found, number) for name, found in rounds.items()}
        rows += [_row(name, each, kept, number, asked.rounds) for name in asked.ways]
    for row in rows:
        first = next(other for other in rows if other["way"] == row["way"])
        row["to_first"] = row["bytes"] / first["bytes"]
    return rows


Memory = dict[tuple[str, int], int]
"""Objects in use, by the kernel's cache and the bytes that each of its objects takes."""


def of_connections(way: Way, number: int, kept: set[str]) -> Memory:
    """What so many connections take; adds to ``kept`` the caches that may have some of it.

    Raises:
        ToaError: a connection is missing, or its server saw another than it should.
    """
    servers = [(ORIGIN[4], _PORT + each) for each in range(-(-number // held.EACH))]
    with Lab() as lab, ExitStack() as undo:
        place = undo.enter_context(_path(lab, way, servers))
        named = bool(way.sender)
        few = held.Balancer(lab.edge, place, named)
        few.hold(zip(islice(held.clients(), _WARM), cycle(servers)))
        few.close()
        time.sleep(_SETTLE)  # nothing tells when memory has been given back
        before = caches()
        holders = []
        for each, server in enumerate(servers):
            first = number * each // len(servers)
            count = number * (each + 1) // len(servers) - first
            holders.append(held.Holder(lab.edge, place, held.Hold(first, count, server, named)))
        seen: Counter[str] = Counter()
        for holder in holders:
            seen.update(holder.held().seen)
        time.sleep(_SETTLE)  # as before it
        after = caches()
        kept |= keeping()
        again: Counter[str] = Counter()
        for holder in holders:
            again.update(holder.end())
        wanted = {"right" if way.receiver else EDGE_TO_ORIGIN[4]: number}
        if seen != wanted or again != wanted:
            raise ToaError(f"{way.title}: of {number} connections, servers saw {seen}, {again}")
    return {name: after[name] - before.get(name, 0) for name in after}


@contextmanager
def _path(lab: Lab, way: Way, servers: Sequence[held.Address]) -> Iterator[Path]:
    """Have servers, sender and receiver at work; yields the load balancer's cgroup."""
    at_edge, at_origin = lab.cgroup("edge"), lab.cgroup("origin")
    lab.edge.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    with ExitStack() as undo:
        if way.receiver:
            paths.receive(way.receiver, at_origin, undo)
        for _, port in servers:
            told_server.serve(lab, told_server.Serve([port], hold=True), at_origin)
        if way.sender:
            undo.enter_context(paths.send(lab, way.sender, at_edge))
        yield at_edge


def caches() -> Memory:
    """What the kernel's caches have in use, spare ones given back; slabinfo(5)."""
    for cache in Path("/sys/kernel/slab").iterdir():
        (cache / "shrink").write_text("1")
    # name <active_objs> <num_objs> <objsize> ...
    rows = (line.split() for line in Path("/proc/slabinfo").read_text().splitlines()[2:])
    return {(row[0], int(row[3])): int(row[1]) for row in rows}


def keeping() -> set[str]:
    """Caches that are `_KEPT_IN`, by any of their names: the kernel has one for objects alike."""
    caches = list(Path("/sys/kernel/slab").iterdir())
    there = {cache.resolve() for cache in caches if cache.name.startswith(_KEPT_IN)}
    return {cache.name for cache in caches if cache.resolve() in there}


Objects = dict[tuple[str, int], float]
"""The same of one connection."""


def _medians(rounds: Sequence[Memory], number: int) -> Objects:
    every = {cache for found in rounds for cache in found}
    return {
        cache: statistics.median(found.get(cache, 0) for found in rounds) / number
        for cache in every
    }


def _row(
    name: str, each: dict[str, Objects], kept: set[str], number: int, rounds: int
) -> figures.Row:
    way, mine = WAYS[name], each[name]
    base = each[way.base] if way.base else {}
    more = {
        cache: objects - base.get(cache, 0) for cache, objects in mine.items() if cache[0] in kept
    }
    return {
        "what": f"{way.title}, {number:,} connections, Linux {report.kernel()}",
        "way": name,
        "connections": number,
        "rounds": rounds,
        "bytes": sum(size * objects for (_, size), objects in mine.items() if objects >= _NOISE),
        "base": WAYS[way.base].title if way.base else "",
        "more": [
            {"cache": cache, "size": size, "objects": objects}
            for (cache, size), objects in sorted(more.items(), key=lambda item: -abs(item[1]))
            if abs(objects) >= _NOISE
        ],
    }


def _total(row: figures.Row) -> int:
    return round(sum(each["size"] * each["objects"] for each in row["more"])) if row["base"] else 0


def _where(row: figures.Row) -> str:
    shown = (f"{each['objects']:.2f} × {each['size']:,} ({each['cache']})" for each in row["more"])
    return ", ".join(shown) if row["base"] else "–"


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Nothing may grow faster than connections do, and what adds something is to be seen."""
    found = [
        f"{row['what']}: {row['to_first']:.3f} of the bytes that fewer take each"
        for row in rows
        if abs(row["to_first"] - 1) > _LINEAR
    ]
    return found + [f"{row['what']}: adds nothing" for row in rows
                    if row["base"] and _total(row) <= 0]  # fmt: skip


def _draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
    """What TOA adds, on top of the connection itself."""
    added = [max(0, _total(row)) for row in rows]
    axes.barh(titles, [row["bytes"] - more for row, more in zip(rows, added, strict=True)],
              color="#c3cdd6", height=0.7)  # fmt: skip
    bars = axes.barh(titles, added, left=[row["bytes"] - more for row, more in
                     zip(rows, added, strict=True)], color="#2f6f9f", height=0.7)  # fmt: skip
    axes.bar_label(bars, [f"{row['bytes']:,.0f}, of them {more:,}" if row["base"] else
                          f"{row['bytes']:,.0f}" for row, more in zip(rows, added, strict=True)],
                   padding=3, fontsize="small")  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlabel("bytes of a connection, both ends; dark: what this adds")
    axes.margins(x=0.25)


def _numbers(text: str) -> list[int]:
    return sorted(map(int, text.split(",")))


EXPERIMENT = Experiment(
    command="bench/scale memory",
    name="scale-memory",
    title="Memory of a held connection in the kernel",
    words="""
Held connections from an edge to an origin, both sockets on this machine and no load balancer,
so that *bytes* are those of both ends. Each way is compared with one that differs in nothing
else: the eBPF sender and the queue with no TOA, the receivers with the eBPF sender alone. *Where*
is objects of a connection × bytes of an object, and the kernel's cache in /proc/slabinfo; where a
connection has not nearly a whole object of a cache, that is left out, and so are caches of files
and processes. Medians of the rounds. The
kernel may keep several kinds of objects of one size in one cache, and call it by the first's name:
eventpoll_epi is also that of bound ports (tcp_bind_bucket), of which there are fewer where
connections to several servers, or of several clients, share them. Every connection's server was
asked whom it saw. *At 10 million* is extrapolated: bytes × 10,000,000.
""",
    arguments=arguments,
    measure=measure,
    columns={
        "bytes": lambda row: f"{row['bytes']:,.0f}",
        "more than": lambda row: row["base"] or "–",
        "more, bytes": lambda row: f"{_total(row):,}" if row["base"] else "–",
        "where": _where,
        "bytes, to the fewest connections": lambda row: f"{row['to_first']:.3f}",
        "all at 10 million, GiB": lambda row: f"{row['bytes'] * _MANY / _GIB:,.1f}",
        "more at 10 million, GiB": lambda row: (
            f"{_total(row) * _MANY / _GIB:,.1f}" if row["base"] else "–"
        ),
    },
    draw=_draw,
    faults=faults,
    versions=report.versions_of("haproxy", "nftables"),
)
