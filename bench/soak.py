# SPDX-License-Identifier: Apache-2.0
"""Does each server see its own client, over many connections, and on networks that misbehave?

Random clients, half IPv4 and half IPv6, go through unmodified load balancers; each says inside
the connection who it is, and the server compares (visitors.py). Beside each other are counted:
right, without TOA (the server saw the edge), wrong, failed; and what sender and receiver
counted, which is the reason where TOA is missing.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import product

import figures
import paths
import report
import told_server
import visitors
from experiment import Experiment, exit_with, from_command_line, some_of
from figures import Row
from hardships import CASES, Case, happened, impose
from outcome import Outcome, sum_of
from testbed import require

from cloud_toa.demo.lab import CLIENTS, EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.errors import ToaError

_WORDS = """
Random clients, half IPv4 and half IPv6, through unmodified load balancers; each says inside the
connection who it is, and the server compares. *Without TOA*: the server saw the edge's address.
*Wrong*: anybody else's. *Why*: what sender and receiver counted beside the usual, if any were
without TOA, and how some failed. toa.ko's *absent* counts clients' connections to the edge as well,
as it serves the whole machine. *The kernel
counted*: that what makes it hard happened, on edge and origin.

"As it is" is through HAProxy, nginx and edge run, each a third; with the sender by eBPF, edge run
also has clients at an origin of the other family. The other cases are through HAProxy; Fast Open
and TCP-MD5 through a load balancer of the benchmark's own, as no other has them towards origins.

Linux keeps no SYN of connections by SYN cookies, so saved-syn knows no client there; nor of MPTCP
sockets. TCP-MD5 and the queue can't be had together: a signature holds the addresses, which NAT
changes; nor, nearly, Fast Open and the queue, as Linux remembers cookies by both addresses.
"""


def _share(row: Row) -> str:
    return f"{100 * row['without'] / row['connections']:.3g} %"


def _listed(counters: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counters.items()) or "–"


COLUMNS: dict[str, Callable[[Row], str]] = {
    "connections": lambda row: f"{row['connections']:,}",
    "wrong": lambda row: f"{row['wrong']:,}",
    "failed": lambda row: f"{row['failed']:,}",
    "without TOA": _share,
    "why": lambda row: _listed({**row["reasons"], **row["failures"]}),
    "the kernel counted": lambda row: _listed(row["counted"]),
    "connections/s": lambda row: f"{row['rate']:,.0f}",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--connections", type=int, default=100_000, help="of a case (100000)")
    parser.add_argument("--senders", type=some_of(paths.SENDERS), default="bpf",
                        metavar="NAME,NAME", help="of bpf (default), queue")  # fmt: skip
    parser.add_argument("--receivers", type=some_of(paths.RECEIVERS), default="bpf",
                        metavar="NAME,NAME", help="of bpf (default), kmod, saved-syn")  # fmt: skip
    parser.add_argument("--cases", type=some_of(CASES), default="plain", metavar="NAME,NAME",
                        help=f"of {', '.join(CASES)} (default plain)")  # fmt: skip
    parser.add_argument("--at-once", type=int, default=16, help="connections at a time (16)")


def measure(asked: argparse.Namespace) -> Iterator[Row]:
    """Every case by every sender and receiver."""
    require({"haproxy": "haproxy", "nginx": "nginx-light"})
    for name, sender, receiver in product(asked.cases, asked.senders, asked.receivers):
        case = CASES[name]
        if not {sender, receiver} & set(case.impossible):
            yield of_case(case, sender, receiver, asked.connections, asked.at_once)


def of_case(case: Case, sender: str, receiver: str, connections: int, at_once: int) -> Row:
    """A row.

    Raises:
        ToaError: what makes it hard did not happen.
    """
    share = math.ceil(connections / len(case.balancers) / 2) * 2
    found = [
        through(case, balancer, sender, receiver, share, at_once) for balancer in case.balancers
    ]
    outcome = sum_of([each for each, _, _ in found])
    reasons = _added([counters for _, counters, _ in found])
    counted = sum(number for _, _, number in found)
    if case.counted and not counted:
        raise ToaError(
            f"{case.title}: {case.counted} is 0: it did not happen in so few connections"
        )
    return {
        "what": f"{sender} → {receiver}, Linux {report.kernel()}: {case.title}",
        "case": case.title,
        "sender": sender,
        "receiver": receiver,
        "balancers": list(case.balancers),
        **outcome.counts(),
        "reasons": reasons,
        "counted": {case.counted: counted} if case.counted else {},
        "rate": outcome.total / (outcome.ended - outcome.begun),
        "slowest": outcome.slowest,
    }


def _added(found: list[paths.Counters]) -> paths.Counters:
    names = dict.fromkeys(name for counters in found for name in counters)
    return {name: sum(counters.get(name, 0) for counters in found) for name in names}


def through(
    case: Case, balancer: str, sender: str, receiver: str, count: int, at_once: int
) -> tuple[Outcome, paths.Counters, int]:
    """So many connections through one balancer.

    Returns:
        What came of them, why some were without TOA, and how often what is hard happened.
    """
    with Lab() as lab, ExitStack() as undo:
        impose(lab, case)
        at_origin, to = lab.cgroup("origin"), paths.SERVER_PORTS[balancer]
        received = paths.receive(receiver, at_origin, undo, host=lab.origin)
        trust = list(EDGE_TO_ORIGIN.values())
        task = told_server.Serve(
            [to],
            saved_syn=trust if receiver == "saved-syn" else [],
            md5=trust if "md5" in case.serve else [],
            fast_open="fast_open" in case.serve,
            mptcp="mptcp" in case.serve,
        )
        told_server.serve(lab, task, at_origin)
        sent = undo.enter_context(paths.BY_BALANCER[balancer](lab, sender, to))
        before = sent(), received()
        outcome = visitors.visit(
            lab, _ways(balancer, sender), list(EDGE_TO_ORIGIN.values()), count, at_once
        )
        counted = {
            name: number - was.get(name, 0)
            for was, now in zip(before, (sent(), received()), strict=True)
            for name, number in now.items()
        }
        hard = happened(lab, case)
    if not outcome.without:
        return outcome, {}, hard
    odd = {name: count for name, count in counted.items() if count and name in paths.ODD}
    return outcome, odd, hard


def _ways(balancer: str, sender: str) -> list[visitors.Way]:
    """IPv4 and IPv6 clients in turn; to origins of the other family as well, where that is had."""
    both = balancer == "edge run" and sender == "bpf"
    ports = (paths.PORT, paths.PORT + 1) if both else (paths.PORT,)
    return [
        visitors.Way(CLIENTS[version], EDGE[version], port) for port in ports for version in (4, 6)
    ]


EXPERIMENT = Experiment(
    command="bench/soak",
    name="soak",
    title="Does each server see its own client?",
    words=_WORDS,
    measure=measure,
    columns=COLUMNS,
    draw=figures.bars(
        lambda row: 100 * row["right"] / row["connections"],
        "connections whose server saw their client, %",
        label=lambda row: f"{100 * row['right'] / row['connections']:.4g} %",
    ),
    faults=lambda rows: [
        f"{row['what']}: {row['wrong']} wrong: {row['wrong_ones'][:3]}, {row['failed']} failed: "
        f"{_listed(row['failures'])}"
        for row in rows
        if row["wrong"] or row["failed"]
    ],
    arguments=arguments,
)


def main() -> int:
    """Be the command."""
    return from_command_line(EXPERIMENT, __doc__)


if __name__ == "__main__":
    exit_with("bench/soak", main)
