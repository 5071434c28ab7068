# SPDX-License-Identifier: Apache-2.0
"""Which servers, unmodified, see their clients? Each behind every way to name the client.

The servers are Debian's, started with what they need to be reached; clients are their own
(ssh, psql, redis-cli, HTTP), from another host, through HAProxy, once by IPv4 and once by
IPv6. Counted is what the server itself names, in its log and, where it can be asked, when asked.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_address

import figures
import unmodified
from experiment import Experiment, exit_with, from_command_line, some_of
from testbed import require
from unmodified import SERVERS, Answer, Running, Server
from ways import BALANCER, CLIENT, FAILS, WAYS, Edge, Way

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.option import plain

_CLIENT = {4: "10.8.0.2", 6: "fd08::2"}
"""The client's own addresses (lab.py)."""
_COLOURS = {CLIENT: "#8fc48a", BALANCER: "#edd28a", FAILS: "#e09a8f"}

_WORDS = """
Servers as Debian ships them, with what they need to be reached from other hosts and nothing
about clients' addresses, behind HAProxy. The client is the server's own (ssh, psql, redis-cli,
HTTP), on another host, by IPv4 and by IPv6. Does it get through, and whom does the server name,
in its log, and where it can be asked (sshd, PostgreSQL, Redis) also then? With PROXY v2 a server
must be told to expect the header; of these, nginx can be (`listen … proxy_protocol`), and then is
not unmodified.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--ways", type=some_of(WAYS), metavar="NAME,NAME",
                        help=f"of {', '.join(WAYS)} (default all; in a machine kmod)")  # fmt: skip
    parser.add_argument("--servers", type=some_of(SERVERS), default=list(SERVERS),
                        metavar="NAME,NAME", help=f"of {', '.join(SERVERS)}")  # fmt: skip


def measure(asked: argparse.Namespace) -> Iterator[figures.Row]:
    """A row for each way."""
    require({"haproxy": "haproxy", "go-mmproxy": "go-mmproxy", **unmodified.PROGRAMS})
    unmodified.own_run()
    chosen = [SERVERS[name] for name in asked.servers]
    # toa.ko is for the machine's kernel; all else works here.
    ways = asked.ways or [name for name in WAYS if (name == "kmod") == bool(asked.vm)]
    with Lab() as lab:
        at_origin = lab.cgroup("origin")
        running = Running(lab, chosen, at_origin)
        edge = Edge(lab, chosen, at_origin)
        for name in ways:
            yield row(edge, WAYS[name], running, chosen)


def row(edge: Edge, way: Way, running: Running, servers: Sequence[Server]) -> figures.Row:
    """What every server names by one way."""
    cells = {}
    with edge.ready(way):
        for server in servers:
            port = edge.port(way.kind, server)
            answers = {version: running.ask(server, EDGE[version], port) for version in (4, 6)}
            cells[server.title] = {
                "verdict": _both({each: verdict(each, answers[each]) for each in answers}),
                **{f"IPv{version}": asdict(answer) for version, answer in answers.items()},
            }
    return {"what": way.title, "promise": way.promise, "servers": cells}


def verdict(version: int, answer: Answer) -> str:
    """Whom the server named, in words."""
    if answer.error:
        return FAILS
    named = {str(plain(ip_address(name))) for name in (answer.said, answer.logged) if name}
    if named == {_CLIENT[version]}:
        return CLIENT
    return BALANCER if named == {EDGE_TO_ORIGIN[version]} else f"sees {', '.join(sorted(named))}"


def _both(verdicts: dict[int, str]) -> str:
    if len(set(verdicts.values())) == 1:
        return verdicts[4]
    return "; ".join(f"IPv{version}: {words}" for version, words in verdicts.items())


def _column(server: str) -> Callable[[figures.Row], str]:
    return lambda row: str(row["servers"].get(server, {"verdict": "–"})["verdict"])


COLUMNS = {server.title: _column(server.title) for server in SERVERS.values()}


def faults(rows: Sequence[figures.Row]) -> list[str]:
    """Servers that named another than their way promises."""
    return [
        f"{row['what']}: {name} {found['verdict']}, and not: {row['promise']}"
        for row in rows
        for name, found in row["servers"].items()
        if found["verdict"] != row["promise"]
    ]


EXPERIMENT = Experiment(
    command="bench/servers",
    name="servers",
    title="Which servers, unmodified, see their clients?",
    words=_WORDS,
    measure=measure,
    columns=COLUMNS,
    draw=figures.grid(COLUMNS, _COLOURS),
    faults=faults,
    arguments=arguments,
    versions=unmodified.VERSIONS,
)


def main() -> int:
    """Be the command."""
    return from_command_line(EXPERIMENT, __doc__)


if __name__ == "__main__":
    exit_with("bench/servers", main)
