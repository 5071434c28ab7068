# SPDX-License-Identifier: Apache-2.0
"""Forged TOA, by hand and by floods: does a server see anybody who isn't there, and who is served?

The server logs whom it sees at accept(), and again once a client has spoken. By hand: whole
connections with forged options in SYN, ACK and data. Blind: SYNs and ACKs in the edge's name by
who does not see the answers. Floods: SYNs with forged options as fast as the machine sends,
while real clients go through HAProxy.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product

import assault
import figures
import flood
import forgery
import msgspec
import paths
import report
import told_server
from attacker import attacker
from experiment import Experiment, exit_with, from_command_line, some_of
from testbed import require

from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab

_PORT = paths.SERVER_PORTS["haproxy"]
_PROGRAMS = {"haproxy": "haproxy", "trafgen": "netsniff-ng"}
_EDGES = [*EDGE_TO_ORIGIN.values(), *forgery.HAND_MADE["edge"].values()]


@dataclass(frozen=True)
class Case:
    """An attack: connections by hand (``who`` makes them), or a flood, or none.

    ``cookies`` is the origin's sysctl; ``clients``: whether real ones come meanwhile.
    """

    title: str
    who: str = ""
    options: Callable[[bytes, bytes], list[forgery.Forged]] = forgery.alone
    flood: Callable[[int], list[str]] | None = None
    cookies: int = 1
    clients: bool = False


CASES = {
    "direct": Case("an option, from a stranger", "stranger"),
    "balancer": Case("an option, from a client", "client"),
    "full-direct": Case("40 bytes of options, from a stranger", "stranger", forgery.full),
    "full-balancer": Case("40 bytes of options, from a client", "client", forgery.full),
    "full-edge": Case("40 bytes of options, from an edge", "edge", forgery.full),
    "two-edge": Case("two clients, from an edge", "edge", forgery.two),
    "blind": Case("blind, in the edge's name", flood=flood.guesses),
    "blind-cookies": Case("blind, SYN cookies always", flood=flood.guesses, cookies=2),
    "none": Case("no flood", clients=True),
    "flood": Case("SYN flood", flood=flood.syns, clients=True),
    "flood-cookies": Case("SYN flood, SYN cookies always", flood=flood.syns, cookies=2,
                          clients=True),
}  # fmt: skip


_WORDS = """
Forged options by hand, in the SYN, the ACK and the data of whole connections: from a *stranger* at
the origin's own switch, from a client of the load balancer, and from an *edge* that the receiver
believes, where the server must see whom option.py reads. *Blind*: SYNs in the edge's name, each
with an ACK from the same port whose numbers are guessed, by trafgen at the origin's switch. *SYN
flood*: by trafgen too, in equal parts IPv4 and IPv6, from random addresses and in the edge's name,
each with a forged option, while real clients come through HAProxy.

The server logs whom it sees at accept() and again once a client has spoken. *False*: anybody but
whom it should see; blind, any connection at all. *Accepted*: all that the server was given.
*Clients kept*: what the receiver has remembered; with eBPF it is freed with the socket. *Sockets*
of the origin, *half-open* connections, entries of toa.ko's table and *slab*, all of the kernel's
objects on the machine: before, the most during, and 5 s after the attack. *Without TOA*: the server
saw the edge's address; a connection that a SYN cookie completed has no saved SYN.

More connections may be accepted than came, from the edge's own address, without a word: with SYN
cookies, Linux takes a late ACK of a connection that has ended for a new one's, if as much had been
said in it as heard. Such an ACK names nobody.

A blind ACK is right by chance once in 2²⁹ (540 million), while SYN cookies are accepted: of 256
values of its counter 2 are, and of 2²⁴ others 4 (Linux, net/ipv4/syncookies.c). Whoever can send in
an edge's name to the origin for long enough so gets a connection, from whom its ACK's option says.
So a network should let nobody else send in the edges' names.
"""


def _words(text: str) -> list[str]:
    return text.split(",")


_MORE = 128 << 20
"""Bytes of the kernel's that a flood may take: were each SYN kept, with some 300 bytes, a flood of
100,000 a second would take more within five seconds."""


def is_wrong(row: figures.Row) -> bool:
    """Whether something was not as it should be, or could not be tried."""
    # A SYN cookie keeps no SYN, and anybody may be without TOA there.
    without = row["without"] if row["receiver"] != "saved-syn" else 0
    return bool(row["false"] or row["missing"] or row["failed"] or without or _grown(row) > _MORE)


def _grown(row: figures.Row) -> int:
    """Bytes that the kernel has taken during it."""
    return int(row["most"]["slab"] - row["before"]["slab"]) if row["before"] else 0


def share(row: figures.Row) -> float:
    """Of what was tried, how much the server saw as it should, in percent."""
    tried = row["clients"] or row["connections"] or row["packets"]
    right = row["right"] if row["clients"] else tried - row["false"] - row["missing"]
    return float(100 * right / tried)


def _outcome(row: figures.Row) -> str:
    if row["clients"]:
        rate = f", at {row['rate']:,.0f} SYNs/s" if row["packets"] else ""
        return f"{row['right']:,} of {row['clients']:,}{rate}"
    return f"{row['false']:,} false of {row['connections'] or row['packets']:,}"


def _sent(row: figures.Row) -> str:
    if row["connections"]:
        return f"{row['connections']:,} connections"
    return f"{row['packets']:,} packets" if row["packets"] else "–"


def _where(name: str, show: Callable[[figures.Row], str]) -> Callable[[figures.Row], str]:
    return lambda row: show(row) if row[name] else "–"


def _course(what: str, show: Callable[[int], str]) -> Callable[[figures.Row], str]:
    """Before, at most during, and after."""
    times = "before", "most", "after"
    return _where("before", lambda row: " / ".join(show(row[each][what]) for each in times))


COLUMNS: dict[str, Callable[[figures.Row], str]] = {
    "forged": _sent,
    "sent/s": _where("packets", lambda row: f"{row['rate']:,.0f}"),
    "arrived/s": _where("packets", lambda row: f"{row['arrived']:,.0f}"),
    "false": lambda row: f"{row['false']:,}",
    "real clients": _where("clients", lambda row: f"{row['clients']:,}"),
    "right": _where("clients", lambda row: f"{row['right']:,}"),
    "without TOA": _where("clients", lambda row: f"{row['without']:,}"),
    "failed": _where("clients", lambda row: f"{row['failed']:,}"),
    "p99 ms": _where("clients", lambda row: f"{1000 * row['p99']:.1f}"),
    "accepted": lambda row: f"{row['accepted']:,}",
    "clients kept": _where("counters", lambda row: f"{row['kept']:,}"),
    "SYN cookies": _where("packets", lambda row: f"{row['kernel_counts']['SyncookiesSent']:,}"),
    "sockets": _course("sockets", str),
    "half-open": _course("half_open", str),
    "toa.ko's entries": lambda row: (
        _course("entries", str)(row) if row["receiver"] == "kmod" else "–"
    ),
    "slab MB": _course("slab", lambda size: f"{size / 1e6:.0f}"),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--receivers", type=some_of(paths.RECEIVERS), default="bpf,saved-syn",
                        metavar="NAME,NAME", help="of bpf, kmod, saved-syn")  # fmt: skip
    parser.add_argument("--cases", type=some_of(CASES), default=list(CASES), metavar="NAME,NAME",
                        help=f"of {', '.join(CASES)} (default all)")  # fmt: skip
    parser.add_argument("--connections", type=int, default=400, help="by hand, of a case (400)")
    parser.add_argument("--seconds", type=float, default=20, help="of a flood (20)")
    parser.add_argument("--trust", type=_words, default=_EDGES, metavar="NETWORK,NETWORK",
                        help="whom the receiver believes (the edges)")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """Every case against every receiver."""
    require(_PROGRAMS)
    for receiver, name in product(asked.receivers, asked.cases):
        yield of_case(CASES[name], receiver, asked)


def of_case(case: Case, receiver: str, asked: argparse.Namespace) -> figures.Row:
    """One attack on one receiver."""
    with Lab() as lab, ExitStack() as undo:
        host = undo.enter_context(attacker(lab))
        lab.origin.sysctl("net.ipv4.tcp_syncookies", case.cookies)
        at_origin, log = lab.cgroup("origin"), lab.files / "seen.log"
        received = paths.receive(receiver, at_origin, undo, asked.trust)
        task = told_server.Serve(
            [_PORT], saved_syn=asked.trust if receiver == "saved-syn" else [], log=str(log)
        )
        told_server.serve(lab, task, at_origin)
        undo.enter_context(paths.BY_BALANCER["haproxy"](lab, "bpf", _PORT))
        if case.who:
            way = lab, host, log, receiver, case.who, case.options
            found = forgery.forge(*way, asked.connections)
        else:
            packets = case.flood(_PORT) if case.flood else []
            found = assault.assault(lab, host, log, packets, asked.seconds, clients=case.clients)
        counted = received()
    return {
        "what": f"{receiver}, Linux {report.kernel()}: {case.title}",
        "case": case.title,
        "receiver": receiver,
        "trust": asked.trust,
        "counters": counted,
        "kept": counted.get("found", 0),
        **msgspec.to_builtins(found),
    }


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """What was wrong, and whom servers saw."""
    return [
        f"{row['what']}: {row['false']} false ({', '.join(row['false_ones'])}), "
        f"{row['missing']} never heard, of {row['clients']} clients {row['failed']} failed and "
        f"{row['without']} were without TOA, {_grown(row)} bytes more in the kernel"
        for row in rows
        if is_wrong(row)
    ]


EXPERIMENT = Experiment(
    command="bench/attack",
    name="attack",
    title="Does a server see anybody who isn't there?",
    words=_WORDS,
    measure=measure,
    columns=COLUMNS,
    draw=figures.bars(share, "seen as it should be, %", label=_outcome),
    faults=faults,
    arguments=arguments,
    versions=report.versions_of("haproxy", "trafgen"),
)


def main() -> int:
    """Be the command."""
    return from_command_line(EXPERIMENT, __doc__)


if __name__ == "__main__":
    exit_with("bench/attack", main)
