# SPDX-License-Identifier: Apache-2.0
"""Many edges in front of one origin, behind ECMP or anycast: is each client its own?

Through two edges (two_edges.py); through one, when the other is withdrawn, and its connections'
packets arrive at the one, which knows nothing of them; from one client's port through both at
once. For comparison, the same by true transparent proxying: IP_TRANSPARENT and routing.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import figures
import held
import report
import two_edges
import visitors
from experiment import Experiment
from matplotlib.axes import Axes
from outcome import Outcome
from testbed import require
from two_edges import PORT, SECOND, SECOND_TO_ORIGIN, VIP, Edges

from cloud_toa.demo.lab import CLIENTS, EDGE, EDGE_TO_ORIGIN, Lab

_PATIENCE = 2.0
"""Seconds for an answer; where all is well, it takes milliseconds."""
_OWN = [*EDGE_TO_ORIGIN.values(), *SECOND_TO_ORIGIN.values()]
"""Whom a server sees without TOA."""
_FEW, _PAIRS = 100, 3
"""Of what is known to fail, and then takes its time."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--connections", type=int, default=20_000,
                        help="through both, and again through one (20000)")  # fmt: skip
    parser.add_argument("--held", type=int, default=1000,
                        help="held while an edge is withdrawn (1000)")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """With TOA, and by true transparent proxying."""
    require({"haproxy": "haproxy"})
    held.more_files()
    for toa, name in ((True, "TOA by eBPF"), (False, "IP_TRANSPARENT and routing")):
        with Lab() as lab, two_edges.edges(lab, toa=toa) as edges:
            for row in (
                _spread(edges, asked.connections if toa else min(asked.connections, _FEW)),
                _same_port(edges, _FEW if toa else _PAIRS),
                *([_withdrawn(edges, asked.held)] if toa else []),
                *([_after(edges, asked.connections)] if toa else []),
            ):
                row["toa"] = toa
                row["what"] = f"{name}, Linux {report.kernel()}: {row['what']}"
                yield row


def _spread(edges: Edges, number: int) -> figures.Row:
    """Random clients to the VIP, over both edges."""
    before = edges.taken()
    ways = [visitors.Way(CLIENTS[version], VIP[version], PORT) for version in (4, 6)]
    visit = visitors.Visit(ways, _OWN, count=number, at_once=16, patience=_PATIENCE)
    outcome = visitors.Visitors(edges.lab.client, visit).outcome()
    taken = [now - was for was, now in zip(before, edges.taken(), strict=True)]
    return _row("clients of both edges", taken, outcome)


def _row(what: str, taken: Sequence[int], outcome: Outcome) -> figures.Row:
    return {"what": what, "by_edge": list(taken), **outcome.counts()}


def _same_port(edges: Edges, number: int) -> figures.Row:
    """Each client has a connection through each edge, from one port, at the same time."""
    answers: list[str] = []
    taken = edges.taken()
    for client, _ in zip(held.clients(5_000_000), range(number), strict=False):
        with ExitStack() as undo:
            socks = []
            for own in (EDGE[4], SECOND[4]):
                sock = undo.enter_context(edges.lab.connect(client, (own, PORT)))
                sock.settimeout(_PATIENCE)
                sock.sendall(held.line(client))
                answers += held.ask([(sock, client)])
                socks.append((sock, client))
            # Both are there now: neither has taken the other's place.
            answers += held.ask(socks, again=True)
    outcome = Outcome()
    for answer in answers:
        _count(outcome, answer)
    taken = [now - was for was, now in zip(taken, edges.taken(), strict=True)]
    return _row("one client's port through both edges, asked twice", taken, outcome)


def _withdrawn(edges: Edges, number: int) -> figures.Row:
    """Held connections over both edges, of which one is withdrawn."""
    clients = held.Balancer(edges.lab.client, edges.balancers, named=True)
    visits = ((client, (VIP[4], PORT)) for client in held.clients(1_000_000))
    clients.hold(visit for visit, _ in zip(visits, range(number), strict=False))
    by_edge = [edges.open_at(each) for each in range(2)]
    edges.withdraw()
    outcome = Outcome()
    lost = {" ".join(map(str, client)) for _, client in clients.held} - by_edge[0]
    for (_, client), answer in zip(clients.held, held.ask(clients.held, again=True), strict=True):
        stays = " ".join(map(str, client)) not in lost
        _count(outcome, answer, of=", of the edge that stays" if stays else "")
    clients.close()
    row = _row("held, one edge withdrawn", list(map(len, by_edge)), outcome)
    return {**row, "withdrawn": len(by_edge[1])}


def _count(outcome: Outcome, answer: str, of: str = "") -> None:
    """Add what a server answered, or the error instead; ``of`` is whose connection it was."""
    if answer == "right":
        outcome.right += 1
    elif answer in _OWN:
        outcome.without += 1
    elif "." in answer or ":" in answer:
        outcome.wrong += 1
        outcome.wrong_ones.append(answer)
    else:
        outcome.failed += 1
        outcome.failures[answer + of] = outcome.failures.get(answer + of, 0) + 1


def _after(edges: Edges, number: int) -> figures.Row:
    """New clients, when one edge is left."""
    return {**_spread(edges, number), "what": "clients after that", "one_edge": True}


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Nobody is shown as another; with TOA, only connections of the edge that left are lost."""
    found = []
    for row in rows:
        if row["wrong"]:
            found.append(f"{row['what']}: {row['wrong']} wrong: {row['wrong_ones'][:3]}")
        if not row["toa"]:
            continue
        if row["failed"] + row["without"] != row.get("withdrawn", 0):
            found.append(f"{row['what']}: {row['failed']} failed, {row['without']} without TOA")
        if row.get("withdrawn") and row["failures"] != {"ECONNRESET": row["withdrawn"]}:
            found.append(f"{row['what']}: {row['failures']}")
        share = min(row["by_edge"]) / max(1, sum(row["by_edge"]))
        if not row.get("one_edge") and share < 0.25:
            found.append(f"{row['what']}: edges have {row['by_edge']}: not spread")
    return found


def _draw(axes: Axes, titles: Sequence[str], rows: Sequence[figures.Row]) -> None:
    figures.bars(
        lambda row: 100 * row["right"] / row["connections"],
        "connections whose server saw their client, %",
        label=lambda row: f"{row['right']:,} of {row['connections']:,}",
    )(axes, titles, rows)


EXPERIMENT = Experiment(
    command="bench/scale edges",
    name="scale-edges",
    title="Many edges in front of one origin, behind ECMP or anycast",
    words="""
Two edges with one address for clients, HAProxy on each; a route with two next hops spreads clients
by the hash of addresses and ports. The origin trusts the edges' network. *By edge*: connections
that each edge took. Then connections are held and one edge is withdrawn, so that packets of its
connections arrive at the other; and a client uses one port through both edges at once. The same by
true transparent proxying, where the origin has one route to clients: through the first edge.
“No answer”: in two seconds.
""",
    arguments=arguments,
    measure=measure,
    columns={
        "by edge": lambda row: " + ".join(f"{each:,}" for each in row["by_edge"]),
        "right": lambda row: f"{row['right']:,}",
        "without TOA": lambda row: f"{row['without']:,}",
        "wrong": lambda row: f"{row['wrong']:,}",
        "failed": lambda row: f"{row['failed']:,}",
        "how": lambda row: (
            ", ".join(f"{why} {count:,}" for why, count in row["failures"].items()) or "–"
        ),
    },
    draw=_draw,
    faults=faults,
    versions=report.versions_of("haproxy", "nftables"),
)
