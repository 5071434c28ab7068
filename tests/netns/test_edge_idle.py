# SPDX-License-Identifier: Apache-2.0
"""Many connections on which nothing passes: they stay, and cost the node nothing.

What they cost HAProxy and the kernel is measured by ``bench/idle``.
"""

from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud_toa.demo.lab import Lab
from tests.netns.edge_node import running, write
from tests.netns.edge_services import (
    CLIENT,
    CLIENT6,
    FIRST,
    Log,
    ask,
    connected,
    is_seen,
    service,
    start_origin,
    visit,
)

pytestmark = pytest.mark.one_kernel

MANY = 2000
BYTES = 100
"""For each connection: no object of Python's is so small."""


def test_many_idle_connections(lab: Lab, receiver: Path) -> None:
    start_origin(lab, receiver, "web", FIRST)
    log = Log(lab)
    path = write(lab, service("web", 8080) + log.settings)
    with running(lab, "--config", str(path)) as node, ExitStack() as stack:
        assert is_seen(visit(lab, 8080))
        assert log.next()["end"] == "--"
        before = memory(node.process.pid)
        idle = [
            stack.enter_context(connected(lab, 8080, client=(CLIENT, CLIENT6)[number % 2]))
            for number in range(MANY)
        ]
        assert is_seen(visit(lab, 8080))
        assert log.next()["end"] == "--"
        assert memory(node.process.pid) - before < MANY * BYTES
        for sock in idle:
            assert is_seen(ask(sock) | {"own": list(sock.getsockname()[:2])})
        assert len(log.entries()) == 2


def memory(process: int) -> int:
    """Bytes that it has for itself, and its share of what it has with others: proc(5), Pss."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
