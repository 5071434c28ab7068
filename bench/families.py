# SPDX-License-Identifier: Apache-2.0
"""Which servers keep IPv4 and IPv6 apart, and whom do they see? Through ``cloud-toa edge run``.

Each server in each way to have it listen, as the origin of three services: by its IPv4 address,
by its IPv6 address, and by both. Clients of either IP version connect to each of these.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial

import edge_node
import figures
import paths
import unmodified
from experiment import Experiment, exit_with, from_command_line, some_of
from testbed import require
from unmodified import MARIADB, SERVERS, Answer, Running, Server

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, ORIGIN, Lab

_CLIENT = {4: "10.8.0.2", 6: "fd08::2"}
"""The client's own addresses (lab.py)."""
_NETWORKS = ("10.8.0.0/24", "fd08::/64")
_CLOSED, _SEEN, _MAPPED, _EDGE, _PG = "closed", "client", "::ffff:client", "edge", "no line"
_COLOURS = {_SEEN: "#8fc48a", _MAPPED: "#d8d58a", _EDGE: "#edd28a", _CLOSED: "#e09a8f"}
_MARIADB = {"mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core"}
_NOT_HERE = ("go-mmproxy", "Python")
_PATIENCE = 20.0
"""Seconds in which checks find out what is closed."""

_WORDS = f"""
Servers as Debian ships them, told to listen in each way that they have; the origin's receiver is
the eBPF one. `cloud-toa edge run` has each as an origin by its IPv4 address, by its IPv6 address,
and by both (`address = ["{ORIGIN[4]}", "{ORIGIN[6]}"]`). Clients of either IP version connect.
`client`: the server names the client's own address. `::ffff:client`: it does as an IPv6 address,
which no list of IPv4 networks has. `edge`: it names the edge, as a socket of IPv4 has no room for
an IPv6 client. `no line`: PostgreSQL has a line for the client's network in pg_hba.conf, which
does not hold. `closed`: it does not listen there.
"""


@dataclass(frozen=True)
class Listening:
    """A server, and how it is told to listen; ``both``: by a socket of each IP version."""

    server: str
    how: str
    prepare: Callable[..., list[str]]
    both: bool = False


def _listening(
    server: str, prepare: Callable[..., list[str]], how: str, *given: str, both: bool = False
) -> Listening:
    return Listening(server, how, lambda folder, port: prepare(folder, port, *given), both)


_openssh = partial(_listening, "openssh", unmodified.openssh)
_postgresql = partial(_listening, "postgresql", partial(unmodified.postgresql, clients=_NETWORKS))
_redis = partial(_listening, "redis", unmodified.redis)
_mariadb = partial(_listening, "mariadb", unmodified.mariadb)
_nginx = partial(_listening, "nginx", unmodified.nginx)
LISTENING = (
    _openssh("ListenAddress 0.0.0.0", "0.0.0.0"),
    _openssh("ListenAddress ::", "::"),
    _openssh("no ListenAddress", both=True),
    _postgresql("listen_addresses = '0.0.0.0'", "0.0.0.0"),
    _postgresql("listen_addresses = '::'", "::"),
    _postgresql("listen_addresses = '*'", "*", both=True),
    _redis("bind 0.0.0.0", "0.0.0.0"),
    _redis("bind ::", "::"),
    _redis("bind * -::*", both=True),
    _mariadb("bind-address = 0.0.0.0", "0.0.0.0"),
    _mariadb("bind-address = ::", "::"),
    _mariadb("bind-address = *", "*", both=True),
    _mariadb("bind-address = 0.0.0.0,::", "0.0.0.0,::", both=True),
    _nginx("listen 80", "PORT"),
    _nginx("listen [::]:80", "[::]:PORT"),
    _nginx("listen [::]:80 ipv6only=off", "[::]:PORT ipv6only=off"),
    _nginx("listen 80; listen [::]:80", both=True),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    names = list(dict.fromkeys(each.server for each in LISTENING))
    parser.add_argument("--servers", type=some_of(names), default=names, metavar="NAME,NAME",
                        help=f"of {', '.join(names)}")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """A row for each way to listen."""
    require({"haproxy": "haproxy", **unmodified.PROGRAMS, **_MARIADB})
    unmodified.own_run()
    chosen = [each for each in LISTENING if each.server in asked.servers]
    servers = [_server(number, each) for number, each in enumerate(chosen)]
    with Lab() as lab, ExitStack() as undo:
        at_origin = lab.cgroup("origin")
        running = Running(lab, servers, at_origin)
        paths.receive("bpf", at_origin, undo)
        undo.enter_context(edge_node.running(lab.edge, _file(servers), lab.files))
        for each, server in zip(chosen, servers, strict=True):
            yield row(running, each, server)


def row(running: Running, listening: Listening, server: Server) -> figures.Row:
    """Whom a server names that listens so."""
    cells = {}
    for kind in ("4", "6", "both"):
        for version in (4, 6):
            answer = _ask(running, server, kind, version)
            cells[f"IPv{version} to {kind}"] = {
                "verdict": verdict(version, answer),
                **asdict(answer),
            }
    return {
        "what": f"{listening.server}: `{listening.how}`",
        "both": listening.both,
        "cells": cells,
    }


def _ask(running: Running, server: Server, kind: str, version: int) -> Answer:
    """Where an origin has both addresses, checks find out first which of them is closed."""
    deadline = time.monotonic() + (_PATIENCE if kind == "both" else 0)
    while True:
        answer = running.ask(server, EDGE[version], _port(server, kind))
        if not answer.error or "pg_hba" in answer.error or time.monotonic() > deadline:
            return answer


def verdict(version: int, answer: Answer) -> str:
    """Whom the server named, in words."""
    if "pg_hba" in answer.error:
        return _PG
    if answer.error:
        return _CLOSED
    # What it logs may be of a check; nginx, which can't be asked, logs requests alone.
    named = answer.said or answer.logged
    words = {_CLIENT[version]: _SEEN, f"::ffff:{_CLIENT[version]}": _MAPPED,
             **dict.fromkeys(EDGE_TO_ORIGIN.values(), _EDGE)}  # fmt: skip
    return words.get(named, named)


def _server(number: int, listening: Listening) -> Server:
    return replace(
        {**SERVERS, "mariadb": MARIADB}[listening.server],
        title=f"{listening.server}-{number}",
        port=7100 + number,
        prepare=listening.prepare,
    )


def _port(server: Server, kind: str) -> int:
    return server.port + 1000 * (1 + ("4", "6", "both").index(kind))


def _file(servers: Sequence[Server]) -> str:
    """The edge's."""
    addresses = {"4": f'"{ORIGIN[4]}"', "6": f'"{ORIGIN[6]}"',
                 "both": f'["{ORIGIN[4]}", "{ORIGIN[6]}"]'}  # fmt: skip
    return "".join(
        f'[[service]]\nname = "s{_port(server, kind)}"\n'
        f'listen = ["{EDGE[4]}:{_port(server, kind)}", "[{EDGE[6]}]:{_port(server, kind)}"]\n'
        f'check.enabled = {str(kind == "both").lower()}\ncheck.interval = "500ms"\n'
        f"[[service.origin]]\naddress = {address}\nport = {server.port}\n"
        for server in servers
        for kind, address in addresses.items()
    )


def _column(cell: str) -> Callable[[figures.Row], str]:
    return lambda row: str(row["cells"][cell]["verdict"])


COLUMNS = {
    f"IPv{version} client, {what}": _column(f"IPv{version} to {kind}")
    for kind, what in (("4", "IPv4 origin"), ("6", "IPv6 origin"), ("both", "both"))
    for version in (4, 6)
}


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Servers that listen by both IP versions, and miss a client where the edge knows both."""
    return [
        f"{row['what']}: {cell}: {found['verdict']}"
        for row in rows
        for cell, found in row["cells"].items()
        if row["both"] and cell.endswith("both") and found["verdict"] != _SEEN
    ]


EXPERIMENT = Experiment(
    command="bench/families",
    name="families",
    title="Which servers keep IPv4 and IPv6 apart?",
    words=_WORDS,
    measure=measure,
    columns=COLUMNS,
    draw=figures.grid(COLUMNS, _COLOURS),
    faults=faults,
    arguments=arguments,
    versions={
        **{name: how for name, how in unmodified.VERSIONS.items() if name not in _NOT_HERE},
        "mariadb": ("dpkg-query", "-W", "-f", "${Version}", "mariadb-server-core"),
    },
)


def main() -> int:
    """Be the command."""
    return from_command_line(EXPERIMENT, __doc__)


if __name__ == "__main__":
    exit_with("bench/families", main)
