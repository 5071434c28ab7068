# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/haproxy.md with a real HAProxy."""

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.demo.lab import EDGE, EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Client
from tests.netns.traffic import wait_until
from tests.recipes.page import page
from tests.recipes.web import PORT, ask, own, start_origin, visit

PAGE = page("haproxy")
ONE_FAMILY = "/etc/haproxy/haproxy.cfg"
BOTH = f"{ONE_FAMILY}, clients of both families"
BOTH_V6 = f"{BOTH}, IPv6 origin"
CDN = f"{ONE_FAMILY}, behind a CDN"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]


def start_haproxy(
    lab: Lab, place: Path, configuration: str, before: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    file = lab.files / "haproxy.cfg"
    file.write_text(configuration)
    return lab.start(
        lab.edge, [*before, "haproxy", "-db", "-f", str(file)], [("", PORT)], place=place
    )


def clients() -> int:
    """The edge's counter that the page tells to look at."""
    status = edge.status()
    assert status is not None
    return status.counters["clients"]


def received(name: str) -> int:
    """One of the origin's; of the whole machine, as the page attaches the receiver there."""
    status = origin.status()
    assert status is not None
    return status.counters[name]


@pytest.mark.parametrize(
    ("block", "versions"), [(ONE_FAMILY, (4,)), (BOTH, (4, 6)), (BOTH_V6, (4, 6))]
)
@pytest.mark.parametrize("before", [[], NOBODY], ids=["root", "nobody"])
def test_the_server_sees_the_client(
    lab: Lab,
    balancers: Path,
    servers: Path,
    block: str,
    versions: Sequence[int],
    before: Sequence[str],
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("haproxy.service", balancers)
    start_haproxy(lab, balancers, PAGE.block(block), before)
    for number, version in enumerate(versions, 1):
        client, seen = visit(lab, log, version)
        assert seen == client
        assert clients() == number
        assert received("found") >= number


@pytest.mark.parametrize("reuse", ["never", "safe", "aggressive", "always"])
def test_mode_http_never_shares_a_client_s_connection(
    lab: Lab, balancers: Path, servers: Path, reuse: str
) -> None:
    """Clients with kept connections, by turns; the origin keeps its connections as well."""
    log = start_origin(lab, servers)
    PAGE.attach("haproxy.service", balancers)
    start_haproxy(lab, balancers, _http(PAGE.block(BOTH), reuse))
    turns = 4
    with ExitStack() as open_ones:
        socks = [
            open_ones.enter_context(lab.connect((client, 0), (EDGE[version], PORT)))
            for version, client in (
                (4, "203.0.113.7"),
                (4, "203.0.113.7"),
                (4, "203.0.113.8"),
                (6, "2001:db8:1::7"),
            )
        ]
        for _ in range(turns):
            for sock in socks:
                assert ask(sock, log) == own(sock)
    # Some connection was used again, or this would say nothing.
    assert len(socks) <= clients() < turns * len(socks)


def _http(block: str, reuse: str) -> str:
    return block.replace("mode tcp", f"mode http\n  http-reuse {reuse}")


CDN_4, CDN_6, OTHER = "203.0.113.7", "2001:db8:1::7", "203.0.113.100"


@pytest.mark.parametrize("reuse", ["safe", "always"])
def test_behind_a_cdn_the_server_sees_the_visitor_whom_it_names(
    lab: Lab, balancers: Path, servers: Path, reuse: str
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("haproxy.service", balancers)
    block = PAGE.block(CDN).replace("mode http", f"mode http\n  http-reuse {reuse}")
    start_haproxy(lab, balancers, block)
    for source, asked in {
        CDN_4: {
            "198.51.100.1": "198.51.100.1",
            # The visitor has sent a header of its own, to which the CDN has added.
            "192.0.2.66, 198.51.100.2": "198.51.100.2",
            "2001:db8:77::1": "2001:db8:77::1",
            "nonsense": CDN_4,
            "198.51.100.3": "198.51.100.3",
            "": CDN_4,
        },
        CDN_6: {"198.51.100.4": "198.51.100.4", "2001:db8:77::2": "2001:db8:77::2", "": CDN_6},
        # Whoever is not the CDN names nobody.
        OTHER: {"198.51.100.5": OTHER, "2001:db8:77::3": OTHER, "": OTHER},
    }.items():
        # All by one connection, which is kept.
        with lab.connect((source, 0), (EDGE[ip_address(source).version], PORT)) as sock:
            for header, expected in asked.items():
                headers = [f"X-Forwarded-For: {header}"] if header else []
                seen = ask(sock, log, *headers)
                assert seen == Client(ip_address(expected), own(sock).port)


def test_health_checks_come_from_the_edge(lab: Lab, balancers: Path, servers: Path) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("haproxy.service", balancers)
    start_haproxy(lab, balancers, f"{PAGE.block(BOTH)}  option httpchk GET /health\n")
    wait_until(lambda: "/health" in log.read_text(), reason=log.read_text)
    assert f"{EDGE_TO_ORIGIN[4]} " in log.read_text()
    assert clients() == 0
    assert received("absent") > 0


def test_the_unit_attaches_as_the_page_does() -> None:
    line = PAGE.command("ExecStartPre=+/usr/local/bin/")
    assert line.endswith(PAGE.command("cloud-toa edge attach"))


def test_without_the_source_the_server_sees_the_edge(
    lab: Lab, balancers: Path, servers: Path
) -> None:
    log = start_origin(lab, servers)
    PAGE.attach("haproxy.service", balancers)
    configuration = PAGE.block(BOTH)
    source = PAGE.command("source :::0")
    start_haproxy(lab, balancers, configuration.replace(source, ""))
    client, seen = visit(lab, log, 4)
    assert str(seen.ip) == EDGE_TO_ORIGIN[4] != str(client.ip)
    assert clients() == 0


def test_haproxy_refuses_another_user_in_the_words_of_the_page(lab: Lab) -> None:
    file = lab.files / "haproxy.cfg"
    file.write_text(f"global\n  user nobody\n{PAGE.block(ONE_FAMILY)}")
    command = ["haproxy", "-db", "-f", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    words = "Some configuration options require full privileges, so global.uid cannot be changed"
    assert words in " ".join(done.stderr.split())
    assert f"`{words}`" in PAGE.text
