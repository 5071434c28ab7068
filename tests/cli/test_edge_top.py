# SPDX-License-Identifier: Apache-2.0
"""The picture that ``edge top`` draws."""

from typing import Any

import pytest

from cloud_toa.cli import edge_top, main

ORIGIN = {
    "name": "192.0.2.7:80", "state": "UP", "weight": 1, "connections": 3, "total": 1000,
    "failed": 2, "bytes_from_clients": 5_000, "bytes_to_clients": 7_000_000,
}  # fmt: skip
SERVICE = {
    "name": "web", "connections": 4, "total": 1200, "rate": 9, "refused": 1,
    "bytes_from_clients": 5_500, "bytes_to_clients": 7_100_000, "origins": [ORIGIN],
}  # fmt: skip


def shown(**changes: Any) -> dict[str, Any]:
    edge = {"pid": 7, "haproxy": 8, "refused": "", "services": [SERVICE], **changes}
    return {"datapath": "bpf", "counters": {"connections": 1200, "no_room": 0}, "edge": edge}


def test_rates_are_of_the_time_between() -> None:
    before = shown()
    before["counters"] = {"connections": 1000, "no_room": 0}
    before["edge"]["services"] = [
        SERVICE
        | {"total": 1000, "bytes_from_clients": 1500, "bytes_to_clients": 100_000}
        | {"origins": [ORIGIN | {"total": 980, "bytes_to_clients": 0}]}
    ]
    lines = edge_top.frame(shown(), before, 2.0)
    assert lines[0] == "cloud-toa edge   datapath bpf   node 7   HAProxy 8"
    assert lines[1] == "TOA  connections 1200 (+100/s)   no_room 0 (+0/s)"
    assert lines[4].split() == ["web", "4", "100", "1", "2.0k", "3.5M"]
    assert lines[5].split() == ["192.0.2.7:80", "UP", "3", "10", "2", "0", "3.5M"]


def test_the_first_picture_has_no_rates() -> None:
    lines = edge_top.frame(shown(), None, 0.0)
    assert lines[4].split() == ["web", "4", "-", "1", "-", "-"]


def test_counts_that_began_anew() -> None:
    before = shown(services=[SERVICE | {"total": 5000}])
    assert edge_top.frame(shown(), before, 1.0)[4].split()[2] == "1.2k"


def test_haproxy_does_not_answer() -> None:
    lines = edge_top.frame(shown(services=None, refused="edge.toml, line 3"), shown(), 1.0)
    assert "settings refused: edge.toml, line 3" in lines
    assert lines[-1] == "HAProxy does not answer"


def test_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edge", "top"]) == 2
    assert "edge status --json" in capsys.readouterr().err
