# SPDX-License-Identifier: Apache-2.0
"""Whom the kernel charges for what is kept per socket: the host, not who typed the command."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup, edge
from cloud_toa.demo.lab import inside
from tests.cli.command import spawn

SOCKETS = 4000
PER_SOCKET = 128
"""Bytes that one socket's storage takes at the least."""


@pytest.fixture
def session() -> Iterator[Path]:
    """A memory cgroup such as an administrator's session has."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup" and "memory" in options.split(","):
            top = Path(place)
            break
    else:
        top = cgroup.root()
        (top / "cgroup.subtree_control").write_text("+memory")
    path = top / f"cloud-toa-lab-{os.getpid()}-session"
    path.mkdir()
    yield path
    path.rmdir()


def used(session: Path) -> int:
    for name in ("memory.kmem.usage_in_bytes", "memory.current"):
        if (session / name).exists():
            return int((session / name).read_text())
    raise AssertionError(f"{session} does not count memory")


def test_sockets_are_not_charged_to_the_session_that_attached(
    session: Path, balancers: Path
) -> None:
    attach = f'echo 0 > {session}/cgroup.procs && exec "$@"'
    before_attach = Path("/proc/self/cgroup").read_text()
    said = spawn("edge", "attach", "--cgroup", str(balancers), before=("sh", "-c", attach, "sh"))
    assert (said.code, said.err) == (0, "")
    assert Path("/proc/self/cgroup").read_text() == before_attach
    before = used(session)
    socks = []
    with inside(balancers):
        for _ in range(SOCKETS):
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_IP, 19, 1)  # IP_TRANSPARENT
            socks.append(sock)
    grown = used(session) - before
    for sock in socks:
        sock.close()
    assert grown < SOCKETS * PER_SOCKET / 4


def test_attach_returns_to_its_own_cgroups(session: Path, balancers: Path) -> None:
    homes = Path("/proc/self/cgroup").read_text()
    with inside(balancers):
        from_here = Path("/proc/self/cgroup").read_text()
        assert from_here != homes
        with cgroup.at_root():
            assert f"0::{cgroup.root().root}\n" in Path("/proc/self/cgroup").read_text()
        assert Path("/proc/self/cgroup").read_text() == from_here
        edge.status()
    assert Path("/proc/self/cgroup").read_text() == homes
