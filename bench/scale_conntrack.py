# SPDX-License-Identifier: Apache-2.0
"""What the queue datapath takes of conntrack's table, for how long, and what if it is full?

Conntrack has one limit for all network namespaces of a host, so to fill it is for a virtual
machine. Entries are counted as the kernel does, ended ones included that it has not yet swept.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path

import figures
import held
import report
import virtual_machine
from experiment import Experiment, some_of
from matplotlib.axes import Axes
from tracked_edge import ENDS, FRONT, PATIENCE, SERVER, Edge, tracked_edge

from cloud_toa.errors import ToaError
from tests.netns.traffic import wait_until

_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_SWEPT = 240.0
"""Seconds: the kernel sweeps what is over at least every minute, and machines are slow."""


CASES: dict[str, Callable[[argparse.Namespace], Iterable[figures.Row]]] = {
    "open": lambda asked: _entries(asked.connections),
    "ended": lambda asked: (_ended(asked.connections, how) for how in ("FIN", "RST")),
    "full": lambda asked: _full(asked.limit),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--connections", type=int, default=500, help="at a time (default 500)")
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES), metavar="NAME,NAME",
                        help=f"of {', '.join(CASES)} (default all); full needs --vm")  # fmt: skip
    parser.add_argument("--limit", type=int, default=1000, help="entries that the table is to have "
                        "when it is full (default 1000)")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """Entries of open, ended and too many connections."""
    if "full" in asked.cases and not virtual_machine.is_inside():
        raise ToaError("conntrack's limit is the whole host's: take --vm, or --cases open,ended")
    held.more_files()
    for case in asked.cases:
        for row in CASES[case](asked):
            yield {**row, "what": f"Linux {report.kernel()}: {row['what']}"}


def _visits(number: int, to: held.Address) -> Iterator[tuple[held.Address, held.Address]]:
    return islice(zip(held.clients(), repeat(to), strict=False), number)


def _entries(number: int) -> Iterator[figures.Row]:
    """Of open connections: to the origin, and clients' to the edge."""
    for firewall in (False, True):
        beside = "beside a firewall's table" if firewall else "no other table"
        for side in ("origin", "client"):
            with tracked_edge(firewall=firewall) as edge:
                before = edge.entries()
                balancer = edge.origin if side == "origin" else edge.front
                balancer.hold(_visits(number, SERVER if side == "origin" else FRONT))
                about = {
                    "origin": "open connections to the origin",
                    "client": "clients' open connections to the edge",
                }
                yield {
                    "what": f"{about[side]}, {beside}",
                    "kind": "open",
                    "connections": number,
                    "right": balancer.seen["right"],
                    "entries": edge.entries() - before,
                    "wanted": number if side == "origin" or firewall else 0,
                }


def _ended(number: int, how: str) -> figures.Row:
    """How long entries count after their connections' end, and when they are over."""
    with tracked_edge() as edge:
        right = _end(edge, number, how)
        begun = time.monotonic()
        series = [(0.0, edge.entries())]
        while series[-1][1] and series[-1][0] < _SWEPT:
            time.sleep(0.25)  # nothing tells when the kernel sweeps
            series.append((time.monotonic() - begun, edge.entries()))
    # Apart, as to list them makes the kernel sweep.
    with tracked_edge() as edge:
        _end(edge, number, how)
        begun = time.monotonic()
        while edge.listed() and time.monotonic() - begun < _SWEPT:
            time.sleep(0.1)  # nor when an entry is over
        over = time.monotonic() - begun
    return {
        "what": f"connections ended by {how}, no other table",
        "kind": "ended",
        "connections": number,
        "right": right,
        "entries": series[0][1],
        "over": over,
        "swept": series[-1][0],
        "left": series[-1][1],
        "series": series,
    }


def _end(edge: Edge, number: int, how: str) -> int:
    """Have so many connections and end them; answer how many servers saw their clients."""
    edge.origin.hold(_visits(number, ENDS if how == "FIN" else SERVER))
    if how == "FIN":
        # The servers have closed; so is this side now.
        edge.origin.hang_up()
    else:
        edge.origin.close()
    return edge.origin.seen["right"]


def _full(limit: int) -> Iterator[figures.Row]:
    """The table is full: of open connections, and of ended ones."""
    before = _LIMIT.read_text()
    try:
        _LIMIT.write_text(str(limit))
        yield _full_of_open(limit)
        yield _full_of_ended(limit)
    finally:
        _LIMIT.write_text(before)


def _full_of_open(limit: int) -> figures.Row:
    with tracked_edge() as edge:
        error = ""
        try:
            edge.origin.hold(_visits(limit + 100, SERVER))
        except OSError as refused:
            error = held.name_of(refused)
        entries, open_now = edge.entries(), len(edge.origin.held)
        client = ("203.0.113.251", 2000)
        new = edge.origin.try_one(client, SERVER)
        answers = list(held.ask(edge.origin.held, again=True))
        to_edge = edge.front.try_one(("203.0.113.252", 2000), FRONT)
        # A connection that begins now, and gets room while its SYN is sent again.
        edge.origin.patience = 30.0
        edge.origin.close(open_now // 2)
        wait_until(lambda: edge.listed() < limit)
        after = edge.origin.try_one(("203.0.113.253", 2000), SERVER)
    return {
        "what": f"table of {limit:,} full of open connections",
        "kind": "full",
        "connections": open_now,
        "right": answers.count("right"),
        "entries": entries,
        "failed": error or "none",
        "then": {
            "one more": new,
            "a client's to the edge": to_edge,
            "one more, half ended": after,
        },
    }


def _full_of_ended(limit: int) -> figures.Row:
    """Thrice as many short connections as there is room for, as fast as they go."""
    with tracked_edge() as edge:
        failed: dict[str, int] = {}
        entries = 0
        visits = _visits(3 * limit, ENDS)
        while some := list(islice(visits, 50)):
            try:
                edge.origin.hold(some)
            except OSError as error:
                name = held.name_of(error)
                failed[name] = failed.get(name, 0) + 50 - len(edge.origin.held)
            entries = max(entries, edge.entries())
            edge.origin.hang_up()
        seen = edge.origin.seen
    return {
        "what": f"table of {limit:,} full of ended connections",
        "kind": "full",
        "connections": 3 * limit,
        "right": seen["right"],
        "wrong": sum(count for answer, count in seen.items() if answer != "right"),
        "entries": entries,
        "failed": ", ".join(f"{name} {count}" for name, count in failed.items()) or "none",
        "then": {},
    }


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Each open connection is one entry, ended ones leave, and a full table shows nobody else."""
    found = []
    for row in rows:
        if row["kind"] == "open" and row["entries"] != row["wanted"]:
            found.append(f"{row['what']}: {row['entries']} entries, not {row['wanted']}")
        if row["kind"] == "ended" and (row["left"] or row["over"] > _SWEPT):
            found.append(f"{row['what']}: {row['left']} entries stay")
        if row["kind"] != "full" and row["right"] != row["connections"]:
            found.append(f"{row['what']}: {row['right']} right")
        if row["kind"] == "full" and row["then"]:
            then = row["then"]
            if row["right"] != row["connections"]:
                found.append(f"{row['what']}: {row['right']} of those open go on")
            if then["one more"] == "right":
                found.append(f"{row['what']}: not full")
            if then["a client's to the edge"] != "right" or then["one more, half ended"] != "right":
                found.append(f"{row['what']}: {then}")
        if row.get("wrong"):
            found.append(f"{row['what']}: {row['wrong']} wrong")
    return found


def _then(row: figures.Row) -> str:
    if row["kind"] == "ended":
        return f"over after {row['over']:.1f} s, not counted after {row['swept']:.1f} s"
    if row["kind"] == "full":
        return ", ".join(
            [f"failed: {row['failed']}", *(f"{what}: {how}" for what, how in row["then"].items())]
        )
    return "–"


def _draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
    """Entries of ended connections, over time."""
    for title, row in zip(titles, rows, strict=True):
        if row["kind"] == "ended":
            share = [100 * counted / row["connections"] for _, counted in row["series"]]
            axes.plot([second for second, _ in row["series"]], share, label=title)
    axes.set_xlabel("seconds after their end")
    axes.set_ylabel("entries counted, % of connections")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", frameon=False)


_columns: dict[str, Callable[[figures.Row], str]] = {
    "connections": lambda row: f"{row['connections']:,}",
    "server saw its client": lambda row: f"{row['right']:,}",
    "entries": lambda row: f"{row['entries']:,}",
    "what became of it": _then,
}

EXPERIMENT = Experiment(
    command="bench/scale conntrack",
    name="scale-conntrack",
    title="Conntrack and the queue datapath",
    words=f"""
Connections by the queue datapath, and the entries that the kernel counts for them at the edge
(`nf_conntrack_count`), which is what `nf_conntrack_max` limits. *Over*: no longer listed; the
kernel sweeps what is over from time to time, and counts it until then. When the table is full,
“no answer” is what {PATIENCE:g} s of patience had: SYNs are dropped, and the kernel sends them
again.
""",
    arguments=arguments,
    measure=measure,
    columns=_columns,
    draw=_draw,
    faults=faults,
    versions=report.versions_of("haproxy", "nftables"),
)
