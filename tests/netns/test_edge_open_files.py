# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` where few files may be open: as many connections as it says."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.edge_node import command, running, write
from tests.netns.edge_services import FIRST, ask, connected, is_seen, service, start_origin

pytestmark = pytest.mark.one_kernel

FILES = 1150
MOST = (FILES - 1000 - 2) // 2


def limited(files: int) -> list[str]:
    """A command that has others run with this limit, which they can't raise."""
    return ["prlimit", f"--nofile={files}", "setpriv", "--bounding-set", "-sys_resource"]


def test_as_many_connections_as_there_is_room_for(lab: Lab, receiver: Path) -> None:
    """All are served, and one more waits; who runs the edge is told the number."""
    start_origin(lab, receiver, "web", FIRST)
    path = write(lab, service("web", 8080))
    with (
        running(lab, "--config", str(path), before=limited(FILES)) as node,
        ExitStack() as stack,
    ):
        assert (
            f"no more than {MOST} connections at a time, as the limit of open files is {FILES}: "
            "raise LimitNOFILE in the unit (ulimit -Hn)" in node.log
        )
        held = [stack.enter_context(connected(lab, 8080)) for _ in range(MOST)]
        for sock in held:
            assert is_seen(ask(sock) | {"own": list(sock.getsockname()[:2])})
        one_more = stack.enter_context(connected(lab, 8080))
        one_more.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ask(one_more)
        one_more.settimeout(120)
        # Meanwhile it can be told things, and reloaded.
        shown = json.loads(node.command("edge", "status", "--json").stdout)
        assert shown["edge"]["services"][0]["connections"] == MOST
        held.pop().close()
        assert one_more.recv(1 << 12).startswith(b"{")
        write(lab, service("web", 8080, 'idle_timeout = "30m"'))
        node.until("applied by a reload")
        write(lab, service("web", 8080, f"max_connections = {MOST + 1}"))
        node.until(f"never has its max_connections {MOST + 1}")
        node.until("applied by a reload")
        # What was said is not said again.
        assert node.log.count(f"no more than {MOST} connections") == 1
        write(lab, service("web", 8080) + f"[haproxy]\nmax_connections = {MOST + 1}\n")
        refused = node.until("not applied")
        assert (
            f"max_connections {MOST + 1} is more than the limit of open files, {FILES}" in refused
        )


def test_a_range_of_ports_counts(lab: Lab) -> None:
    """HAProxy would refuse to start with as many connections as without the range."""
    text = service("web", 8000).replace(':8000"', ':8000-8599"')
    path = write(lab, text)
    with running(lab, "--config", str(path), before=limited(2250)) as node:
        assert "no more than 25 connections" in node.log
    said = command(lab, "edge", "run", "--config", str(path), before=limited(2201))
    assert said.returncode == 2
    assert "limit of open files is 2201, and HAProxy needs 2200 beside connections" in said.stderr
