# SPDX-License-Identifier: Apache-2.0
"""`bench/soak` by the real command: whose address is right, missing, or wrong."""

from pathlib import Path

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

FEW = ("--connections", "90", "--at-once", "4")
NOBODY_BELIEVED = """
from functools import partial
soak.paths.receive = partial(soak.paths.receive, trust=["192.0.2.1"])
"""
EDGE_UNKNOWN = f"{NOBODY_BELIEVED}soak.EDGE_TO_ORIGIN = {{4: '192.0.2.1'}}"


def test_each_receiver(tmp_path: Path) -> None:
    """Through HAProxy, nginx and edge run; and a case that must happen."""
    words = ("--receivers", "bpf,saved-syn", "--cases", "plain,cookies")
    code, (plain, saved, cookies, unsaved), out, _ = run(tmp_path, "soak", *FEW, *words)
    assert code == 0
    assert (plain["receiver"], saved["receiver"]) == ("bpf", "saved-syn")
    assert plain["balancers"] == saved["balancers"] == ["haproxy", "nginx", "edge run"]
    for row in (plain, saved, cookies):
        assert row["right"] == row["connections"] == 90
    assert plain["reasons"] == plain["counted"] == {}
    assert cookies["counted"]["TcpExtSyncookiesRecv"] > 0
    assert "TcpExtSyncookiesRecv" in out
    # Of connections by SYN cookies Linux keeps no SYN.
    assert unsaved["without"] > 0
    assert unsaved["reasons"] == {"by_syn_cookie": unsaved["without"]}


def test_a_case_that_does_not_happen(tmp_path: Path) -> None:
    """Of Fast Open's first connections, none has a cookie yet."""
    code, rows, _, err = run(tmp_path, "soak", "--cases", "fast-open", "--connections", "2")
    assert code == 1
    assert not rows
    assert "TcpExtTCPFastOpenPassive is 0" in err


def test_what_is_missing_and_why(tmp_path: Path) -> None:
    code, (row,), *_ = run(tmp_path, "soak", *FEW, change=NOBODY_BELIEVED)
    assert code == 0
    assert row["without"] == row["connections"] == 90
    assert row["reasons"]["untrusted"] == 90


def test_a_connection_that_fails(tmp_path: Path) -> None:
    nowhere = "soak._ways = lambda *_: [soak.visitors.Way(soak.CLIENTS[4], soak.EDGE[4], 9)] * 2"
    code, (row,), out, _ = run(tmp_path, "soak", *FEW, change=nowhere)
    assert code == 1
    assert row["failed"] == row["connections"] == 90
    assert "Connection refused 90" in out
    assert row["slowest"] == 0


def test_a_wrong_address_fails(tmp_path: Path) -> None:
    code, (row,), *_ = run(tmp_path, "soak", *FEW, change=EDGE_UNKNOWN)
    assert code == 1
    assert row["wrong"] == row["connections"] == 90
