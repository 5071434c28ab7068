# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` while the time of day jumps: all goes on, and what tells it follows."""

import json
import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cloud_toa.balancer.clock import FAR
from cloud_toa.demo.lab import EDGE, Lab
from tests.netns.authority import Authority
from tests.netns.edge_node import EdgeNode, drawn, running, write
from tests.netns.edge_services import (
    CLIENT6,
    FIRST,
    ORIGIN,
    SECOND,
    Answer,
    Log,
    ask,
    connected,
    is_refused,
    is_seen,
    lead,
    origin,
    service,
    start_origin,
    stop_origin,
    visit,
    wait_until_refused,
    wait_until_served,
)
from tests.netns.traffic import wait_until

pytestmark = [
    pytest.mark.only_on(kernel="6.1"),
    pytest.mark.skipif(
        not Path("/run/vm/settings").exists(), reason="sets the clock: in virtual machines alone"
    ),
]

HOUR, DAY = 3600, 86400
TLS = 8443
MOVED = "10.9.0.3"
VALID, SOON = 40 * DAY, 14 * DAY


class Clock:
    """The machine's: the time of day, which jumps, and not the one that only goes on."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()
        self.moved = 0

    def jump(self, seconds: int) -> None:
        self.moved += seconds
        time.clock_settime(time.CLOCK_REALTIME, time.monotonic() + self._began + self.moved)


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    yield clock
    clock.jump(-clock.moved)


def test_services_go_on(lab: Lab, receiver: Path, hosts: Path, clock: Clock) -> None:
    """Connections from before, new ones, limits, checks, names, reloads; logs say what is true."""
    lab.origin.ip(f"address add {MOVED}/24 dev eth0")
    start_origin(lab, receiver, "web", FIRST)
    lead(hosts, f"{ORIGIN} origin.test")
    log = Log(lab)
    authority = Authority(lab.files)
    certificate = authority.pem("a.test", days=VALID // DAY)
    tls = f'[service.tls]\ncertificates = [{{certificate = "{certificate}"}}]'
    # A client has the same clock here, by which the certificate may be wrong.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def text(idle: int) -> str:
        return (
            "resolve_interval = 1\n"
            + service("web", 8080, f'idle_timeout = "{idle}s"')
            + service("tls", TLS, 'protocol = "tls"', tls)
            + service("number", 8081, "max_connections_per_client = 1")
            + service("rate", 8082, "new_connections_per_client = 3")
            + service("down", 8083, "check.interval = '500ms'", origins=origin(SECOND), check=True)
            + service("named", 8084, origins=origin(FIRST, address="origin.test"))
            + log.settings
        )

    path = write(lab, text(HOUR))
    with running(lab, "--config", str(path)) as node, connected(lab, 8080) as idle:
        assert ask(idle)
        for number, jump in enumerate((30 * DAY, 12 * DAY, -42 * DAY - HOUR, HOUR)):
            clock.jump(jump)
            if jump >= FAR:
                node.until("30 days ahead: HAProxy was reloaded")
            is_there(idle)
            nobody_is_busy(node)
            for port, client, with_tls in ((8080, CLIENT6, None), (TLS, "203.0.113.9", context)):
                is_logged(lab, log, port, client=client, tls=with_tls)
            are_limited(lab)
            is_checked(lab, receiver, node)
            lead(hosts, f"{(MOVED, ORIGIN)[number % 2]} origin.test")
            node.until("origin.test is now")
            wait_until(lambda: log_of(log, visit(lab, 8084))["origin_address"] == MOVED)
            before = len(node.log)
            write(lab, text(HOUR + number + 1))
            assert "by a reload" in node.until("applied ")
            left = VALID - clock.moved
            assert ("expires on " in node.log[before:]) == (0 < left < SOON)
            assert ("has expired on " in node.log[before:]) == (left < 0)
            is_shown(lab, node)
            is_there(idle)
        os.kill(node.haproxy, signal.SIGKILL)
        node.until("HAProxy is process")
        assert is_seen(visit(lab, 8080))


def test_by_the_queue(lab: Lab, receiver: Path, clock: Clock) -> None:
    start_origin(lab, receiver, "web", FIRST)
    four = service("web", 8080).replace(f', "[{EDGE[6]}]:8080"', "")
    path = write(lab, f'[toa]\ndatapath = "queue"\nmax_queue_id = 2\n{four}')
    with running(lab, "--config", str(path)) as node, connected(lab, 8080) as idle:
        assert ask(idle)
        for jump in (DAY, -2 * DAY):
            clock.jump(jump)
            is_there(idle)
            assert is_seen(visit(lab, 8080))
            nobody_is_busy(node)


def is_there(sock: Any) -> None:
    sock.sendall(b"still here")
    assert sock.recv(20) == b"still here"


def log_of(log: Log, said: Answer) -> Answer:
    """Its line in the access log; waits for it."""
    port = str(said["own"][1])

    def found() -> list[Answer]:
        return [line for line in log.entries() if line["client_port"] == port]

    wait_until(lambda: bool(found()))
    return found()[-1]


def is_logged(lab: Lab, log: Log, port: int, **how: Any) -> None:
    """With the time that it is, and not the jump in how long it took."""
    before = time.time()
    said = visit(lab, port, **how)
    assert is_seen(said)
    line = log_of(log, said)
    when = datetime.strptime(line["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before - 1 < when.timestamp() <= time.time()
    assert 0 <= line["ms_to_connect"] <= line["ms"] < HOUR * 1000


def are_limited(lab: Lab) -> None:
    with connected(lab, 8081) as only:
        assert ask(only)
        assert is_refused(lab, 8081)
    wait_until_served(lab, 8081)
    wait_until_refused(lab, 8082)
    wait_until_served(lab, 8082)


def is_checked(lab: Lab, receiver: Path, node: EdgeNode) -> None:
    """An origin that comes is found, and one that goes."""
    there = start_origin(lab, receiver, "down", SECOND)
    wait_until_served(lab, 8083)
    stop_origin(there)
    node.until(f"Server down/{ORIGIN}:{SECOND} is DOWN")


def is_shown(lab: Lab, node: EdgeNode) -> None:
    """In no number less than nothing."""
    shown = node.command("edge", "status", "--json").stdout
    assert json.loads(shown)["edge"]["services"]
    assert not re.search(r": -\d", shown)
    assert not re.search(rb" -\d", drawn(lab))


def nobody_is_busy(node: EdgeNode) -> None:
    """The node and HAProxy have next to nothing to do."""
    master = node.haproxy
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    # clock_getcpuclockid(3)
    clocks = [~pid << 3 | 2 for pid in (node.process.pid, master, *map(int, workers))]
    before, began = [*map(time.clock_gettime, clocks)], time.monotonic()
    time.sleep(2)  # what is tried is that time passes, with little in it
    after, passed = [*map(time.clock_gettime, clocks)], time.monotonic() - began
    used = [new - old for new, old in zip(after, before, strict=True)]
    assert max(used) < passed / 2, used
