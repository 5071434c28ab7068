# SPDX-License-Identifier: Apache-2.0
"""Origins with an address of each IP version, whose servers keep the two apart."""

import csv
import json
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import EdgeNode, running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    SECOND,
    Log,
    ask,
    connected,
    is_seen,
    lead,
    origin,
    service,
    start_origin,
    stop_origin,
    trusting,
    visit,
)
from tests.netns.test_edge_tls import entry, tls_service
from tests.netns.traffic import wait_until

pytestmark = pytest.mark.one_kernel

FOUR, SIX = "10.9.0.2", "fd09::2"
MOVED, MOVED6 = "10.9.0.3", "fd09::3"
QUICK = 'check.interval = "100ms"'
METRICS = EDGE[4], 9100
NAME = f"{FOUR}:{FIRST}"


def both(port: int, *lines: str, six: str = SIX) -> str:
    """An origin with both addresses."""
    return origin(port, *lines).replace(f'"{FOUR}"', f'["{FOUR}", "{six}"]')


def start(lab: Lab, place: Path, version: int, port: int = FIRST):  # type: ignore[no-untyped-def]
    """A server of one IP version alone, which says so."""
    return start_origin(lab, place, f"IPv{version}", port, "--only", version)


def wait_for(lab: Lab, name: str, port: int = 8080, client: str = CLIENT) -> None:
    """Until this client's connections come to the server of this name."""
    said: list[Any] = []

    def is_there() -> bool:
        try:
            said.append(visit(lab, port, client=client))
        except ConnectionError as error:
            said.append(str(error))
            return False
        return bool(said[-1]["name"] == name)

    wait_until(is_there, reason=lambda: said[-1])


def logged(log: Log, said: dict[str, Any]) -> dict[str, Any]:
    """The line of a visit."""
    port = str(said["own"][1])

    def lines() -> list[dict[str, Any]]:
        return [each for each in log.entries() if each["client_port"] == port]

    wait_until(lambda: bool(lines()), reason=log.entries)
    return lines()[-1]


def worker(node: EdgeNode) -> str:
    """HAProxy's process that serves."""
    return next(line for line in node.ask("show info").splitlines() if line.startswith("Pid:"))


def origins(node: EdgeNode, name: str = "web") -> dict[str, dict[str, Any]]:
    """What ``edge status`` says of a service's."""
    shown = json.loads(node.command("edge", "status", "--json").stdout)["edge"]["services"]
    (found,) = (each for each in shown if each["name"] == name)
    return {each["name"]: each for each in found["origins"]}


def is_up(lab: Lab, name: str) -> dict[str, float]:
    """What metrics say of an origin of the service, by part."""
    with lab.edge.entered():
        sock = socket.create_connection(METRICS)
    with sock, sock.makefile("rw") as file:
        file.write("GET /metrics HTTP/1.0\r\n\r\n")
        file.flush()
        text = file.read().partition("\n\n")[2]
    return {
        sample.labels.get("part", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "haproxy_server_status"
        and sample.labels.items() >= {"proxy": "web", "server": name, "state": "UP"}.items()
    }


@pytest.mark.parametrize("listed", [True, False], ids=["list", "name"])
def test_each_client_by_its_own(lab: Lab, receiver: Path, hosts: Path, listed: bool) -> None:
    """To the address of its version, seen there; to the other one where its own is down."""
    lead(hosts, f"{FOUR} both.test", f"{SIX} both.test")
    entry = both(FIRST) if listed else origin(FIRST, address="both.test")
    name = NAME if listed else f"both.test:{FIRST}"
    servers = {version: start(lab, receiver, version) for version in (4, 6)}
    log = Log(lab)
    text = service("web", 8080, QUICK, origins=entry, check=True) + log.settings
    path = write(lab, f'metrics = "{METRICS[0]}:{METRICS[1]}"\n{text}')
    with running(lab, "--config", str(path)) as node:
        wait_for(lab, "IPv4", client=CLIENT)
        wait_for(lab, "IPv6", client=CLIENT6)
        for client, server, address in ((CLIENT, "IPv4", FOUR), (CLIENT6, "IPv6", SIX)):
            said = visit(lab, 8080, client=client)
            assert (said["name"], is_seen(said)) == (server, True)
            line = logged(log, said)
            assert [line[key] for key in ("service", "origin", "client", "origin_address")] == [
                *("web", name, client, address)
            ]
            assert line["toa"] == "syn,ack,data"
        stop_origin(servers[4])
        wait_for(lab, "IPv6", client=CLIENT)
        assert is_seen(visit(lab, 8080, client=CLIENT))
        assert origins(node)[name]["state"] == "UP (IPv4 DOWN)"
        assert is_up(lab, name) == {"": 0.0, "ipv6": 1.0}
        start(lab, receiver, 4)
        wait_for(lab, "IPv4", client=CLIENT)
        stop_origin(servers[6])
        wait_for(lab, "IPv4", client=CLIENT6)
        # No socket of IPv4 can name this client.
        assert visit(lab, 8080, client=CLIENT6)["client"][0] == EDGE_TO_ORIGIN[4]
        assert origins(node)[name]["state"] == "UP (IPv6 DOWN)"
        assert "by a reload" not in node.log


def test_before_the_other_address_comes_no_backup(lab: Lab, receiver: Path) -> None:
    one = start(lab, receiver, 4)
    other = start(lab, receiver, 6)
    start_origin(lab, receiver, "backup", SECOND)
    entries = both(FIRST) + both(SECOND, "backup = true")
    path = write(lab, service("web", 8080, QUICK, origins=entries, check=True))
    with running(lab, "--config", str(path)):
        wait_for(lab, "IPv4")
        stop_origin(one)
        wait_for(lab, "IPv6")
        stop_origin(other)
        for client in (CLIENT, CLIENT6):
            wait_for(lab, "backup", client=client)
            assert is_seen(visit(lab, 8080, client=client))


def test_what_changes_without_a_reload(lab: Lab, receiver: Path) -> None:
    """Weights, draining and maintenance, for clients of either version; one origin has one."""
    for port in (FIRST, SECOND):
        start_origin(lab, receiver, str(port), port)

    def text(first: str, second: str) -> str:
        entries = both(FIRST, first) + origin(SECOND, second)
        return service("web", 8080, QUICK, origins=entries, check=True)

    def shares() -> list[Counter[str]]:
        return [
            Counter(visit(lab, 8080, client=client)["name"] for _ in range(8))
            for client in (CLIENT, CLIENT6)
        ]

    path = write(lab, text("weight = 3", "weight = 1"))
    with running(lab, "--config", str(path)) as node:
        assert shares() == [Counter({str(FIRST): 6, str(SECOND): 2})] * 2
        for first, second, expected in (
            ("weight = 1", "weight = 3", {str(FIRST): 2, str(SECOND): 6}),
            ('state = "drain"', "weight = 1", {str(SECOND): 8}),
            ("weight = 1", 'state = "maintenance"', {str(FIRST): 8}),
            ("weight = 1", "weight = 1", {str(FIRST): 4, str(SECOND): 4}),
        ):
            write(lab, text(first, second))
            node.until("applied without a reload")
            wait_until(lambda want=expected: shares() == [Counter(want)] * 2, reason=shares)  # type: ignore[misc]
        counted = origins(node)
        assert set(counted) == {NAME, f"{FOUR}:{SECOND}"}
        assert all(each["state"] == "UP" for each in counted.values())


def test_an_origin_s_most_connections(lab: Lab, receiver: Path) -> None:
    """From clients of either IP version as many; one more waits until one has ended."""
    start_origin(lab, receiver, "web", FIRST)
    path = write(lab, service("web", 8080, origins=both(FIRST, "max_connections = 1")))
    with running(lab, "--config", str(path)) as node:
        for client in (CLIENT, CLIENT6):
            with connected(lab, 8080, client=client) as held, connected(lab, 8080, client=client):
                assert ask(held)["name"] == "web"
                wait_until(lambda: _queued(node) == 1, reason=lambda: node.ask("show stat"))
        with ExitStack() as stack:
            for client in (CLIENT, CLIENT6):
                sock = stack.enter_context(connected(lab, 8080, client=client))
                assert ask(sock)["name"] == "web"
            assert origins(node)[NAME]["connections"] == 2


def _queued(node: EdgeNode) -> int:
    """Connections that wait for a server."""
    rows = csv.DictReader(node.ask("show stat").lstrip("# ").splitlines())
    return sum(int(row["qcur"]) for row in rows if row["svname"] == "BACKEND")


def test_whom_a_proxy_names(lab: Lab, receiver: Path) -> None:
    """The client's IP version counts, and not that of who says who it is."""
    for version in (4, 6):
        start(lab, receiver, version)
    entry = both(FIRST)
    path = write(lab, service("web", 8080, f'proxy_from = ["{CLIENT}"]', origins=entry))
    with running(lab, "--config", str(path)):
        for version, client in ((4, "198.51.100.7"), (6, "2001:db8:7::7")):
            other = {4: "198.51.100.1", 6: "2001:db8:7::1"}[version]
            header = f"PROXY TCP{version} {client} {other} 7777 80\r\n".encode()
            said = visit(lab, 8080, first=header)
            assert (said["name"], said["client"]) == (f"IPv{version}", [client, 7777])


def test_services_that_share_a_port(lab: Lab, receiver: Path) -> None:
    """By the name that TLS asks for, each has its own backends; the log knows whose they are."""
    for version in (4, 6):
        start(lab, receiver, version)
    start_origin(lab, receiver, "other", SECOND)
    authority = Authority(lab.files)
    certificate = entry(*authority.issue("a.test"))
    log = Log(lab)
    named = 'server_names = ["a.test"]'
    text = tls_service("named", 8443, certificate, lines=named, origins=both(FIRST))
    text += tls_service(
        "rest", 8443, certificate, origins=origin(SECOND) + both(7009, "weight = 0")
    )
    path = write(lab, text + log.settings)
    tls = trusting(authority.certificate)
    with running(lab, "--config", str(path)):
        for version, client in ((4, CLIENT), (6, CLIENT6)):
            for asked, name, whose in (
                ("a.test", f"IPv{version}", "named"),
                ("b.test", "other", "rest"),
            ):
                said = visit(lab, 8443, client=client, tls=tls, name=asked)
                assert (said["name"], is_seen(said)) == (name, True)
                line = logged(log, said)
                assert (line["service"], line["toa"]) == (whose, "syn,ack,data")


def test_by_the_queue(lab: Lab, receiver: Path) -> None:
    """Clients come to their own there as well, if without TOA, as others may come to it too."""
    for version in (4, 6):
        start(lab, receiver, version)
    text = '[toa]\ndatapath = "queue"\n' + service("web", 8080, origins=both(FIRST))
    with running(lab, "--config", str(write(lab, text))):
        for version, client in ((4, CLIENT), (6, CLIENT6)):
            said = visit(lab, 8080, client=client)
            assert (said["name"], is_seen(said)) == (f"IPv{version}", False)


def test_a_name_that_comes_to_have_both(lab: Lab, receiver: Path, hosts: Path) -> None:
    """By a reload, and so it goes back; connections go on, addresses change without one."""
    lab.origin.ip(f"address add {MOVED}/24 dev eth0", f"address add {MOVED6}/64 dev eth0 nodad")
    for version in (4, 6):
        start(lab, receiver, version)
    lead(hosts, f"{FOUR} both.test")
    log = Log(lab)
    entry = origin(FIRST, address="both.test")
    head = "resolve_interval = 1\n"
    path = write(lab, head + service("web", 8080, origins=entry) + log.settings)
    with running(lab, "--config", str(path)) as node:
        for client in (CLIENT, CLIENT6):
            assert visit(lab, 8080, client=client)["name"] == "IPv4"
        lead(hosts, f"{FOUR} both.test", f"{SIX} both.test")
        node.until(f"both.test is now {FOUR} and {SIX}, was {FOUR}")
        wait_for(lab, "IPv6", client=CLIENT6)
        before = worker(node)
        lead(hosts, f"{MOVED} both.test", f"{MOVED6} both.test")
        node.until(f"both.test is now {MOVED} and {MOVED6}, was {FOUR} and {SIX}")
        for client, address in ((CLIENT, MOVED), (CLIENT6, MOVED6)):
            wait_until(
                lambda who=client, at=address: (  # type: ignore[misc]
                    logged(log, visit(lab, 8080, client=who))["origin_address"] == at
                ),
                reason=log.entries,
            )
            assert is_seen(visit(lab, 8080, client=client))
        assert worker(node) == before
        lead(hosts, f"{MOVED} both.test")
        node.until(f"both.test is now {MOVED}, was {MOVED} and {MOVED6}")
        wait_for(lab, "IPv4", client=CLIENT6)
