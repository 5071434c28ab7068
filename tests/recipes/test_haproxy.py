# SPDX-License-Identifier: Apache-2.0
"""docs/recipes/haproxy.md with a real HAProxy."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from tests.netns.traffic import wait_until
from tests.recipes.page import page
from tests.recipes.web import PORT, start_origin, visit

PAGE = page("haproxy")
ONE_FAMILY = "/etc/haproxy/haproxy.cfg"
BOTH = f"{ONE_FAMILY}, clients of both families"
BOTH_V6 = f"{BOTH}, IPv6 origin"
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
