# SPDX-License-Identifier: Apache-2.0
"""The demo as a user starts it: what it shows, and that it leaves nothing, however it ends."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from itertools import product
from pathlib import Path

import pytest

from cloud_toa.bpf import cgroup
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from tests.cli.command import CLI, spawn

KEYS = {"lb", "origin", "client_family", "origin_family", "client", "seen_without", "seen_with"}
CLIENTS = {"v4": "203.0.113.7", "v6": "2001:db8:1::7"}
PATIENCE = 30


def test_every_server_sees_the_client_behind_every_load_balancer() -> None:
    said = spawn("demo", "--json")
    assert (said.code, said.err) == (0, "")
    rows = json.loads(said.out)
    ways = {(row["lb"], row["origin"], row["client_family"], row["origin_family"]) for row in rows}
    families = ("v4", "v6")
    assert ways == set(product(("haproxy", "nginx"), ("nginx", "python"), families, families))
    assert len(rows) == 16
    for row in rows:
        assert set(row) == KEYS
        assert row["seen_with"] == row["client"]
        assert _ip(row["client"]) == ip_address(CLIENTS[row["client_family"]])
        assert _ip(row["seen_without"]) == ip_address(EDGE_TO_ORIGIN[int(row["origin_family"][1])])


def _ip(shown: str) -> object:
    return ip_address(shown.rpartition(":")[0].strip("[]"))


def _to_process(number: signal.Signals) -> Callable[["subprocess.Popen[str]"], None]:
    return lambda process: process.send_signal(number)


def _to_group(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGINT)


def _impatient(process: "subprocess.Popen[str]") -> None:
    for _ in range(20):
        _to_group(process)


@pytest.mark.parametrize(
    ("step", "end", "code"),
    [
        ("building", _to_process(signal.SIGINT), 130),
        ("connecting without", _to_group, 130),
        ("connecting with ", _impatient, 130),
        ("started", _to_process(signal.SIGTERM), 130),
        ("building", _to_process(signal.SIGKILL), -signal.SIGKILL),
        ("connecting with ", _to_process(signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["int", "int-group", "int-many", "term", "kill-early", "kill"],
)
def test_an_interrupted_demo_leaves_nothing(
    step: str, end: Callable[["subprocess.Popen[str]"], None], code: int, tmp_path: Path
) -> None:
    before = _named()
    process = subprocess.Popen(
        [*CLI, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"- {step}"):
            break
    started = _of_session(process.pid)
    end(process)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert "Traceback" not in err

    for number in started | _of_session(process.pid):
        _wait_for_end(number)
    assert _of_session(process.pid) == set()
    if code == -signal.SIGKILL:
        # Cgroups are not tied to a process: the next lab removes those of the dead.
        Lab().close()
    assert list(cgroup.root().glob(f"*-{process.pid}-*")) == []
    assert list(tmp_path.iterdir()) == []
    assert _named() == before


def _named() -> tuple[str, list[str], list[str]]:
    """Mounts, names of networks, pins: what an isolated process might have leaked to us."""
    names, pins = Path("/run/netns"), Path("/sys/fs/bpf")
    return (
        Path("/proc/self/mounts").read_text(),
        sorted(path.name for path in names.iterdir()),
        sorted(str(path) for path in pins.rglob("*")),
    )


def _of_session(leader: int) -> set[int]:
    """The living processes that a session's leader has started, whoever adopted them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, _group, session = _stat(path)[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == leader and state not in "ZX":
            found.add(int(path.name))
    return found


def _stat(process: Path) -> list[str]:
    return (process / "stat").read_text().rpartition(")")[2].split()


def _wait_for_end(process: int) -> None:
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        assert select.select([handle], [], [], PATIENCE)[0], f"{process} lives on"
    finally:
        os.close(handle)
