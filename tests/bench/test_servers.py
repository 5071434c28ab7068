# SPDX-License-Identifier: Apache-2.0
"""`bench/servers` by the real command: what servers name is what it says; a lost client is seen."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

CLIENT, CLIENT6, EDGE, EDGE6 = "10.8.0.2", "fd08::2", "10.9.0.1", "fd09::1"


def named(row: dict[str, Any], server: str) -> list[str]:
    """Whom a server named, by IPv4 and IPv6, when asked and in its log."""
    cell = row["servers"][server]
    return [cell[version][how] for version in ("IPv4", "IPv6") for how in ("said", "logged")]


def test_whom_servers_name(tmp_path: Path) -> None:
    words = ("--servers", "openssh,redis", "--ways", "plain,transparent,go-mmproxy,toa")
    code, (plain, *others), *_ = run(tmp_path, "servers", *words)
    assert code == 0
    for server in ("openssh", "redis"):
        assert named(plain, server) == [EDGE, EDGE, EDGE6, EDGE6]
        assert plain["servers"][server]["verdict"] == "sees the load balancer"
        for way in others:
            assert named(way, server) == [CLIENT, CLIENT, CLIENT6, CLIENT6]
            assert way["servers"][server]["verdict"] == "sees the client"


def test_a_client_that_is_lost(tmp_path: Path) -> None:
    nobody = "servers.WAYS['toa'] = replace(servers.WAYS['toa'], receiver='')"
    words = ("--servers", "nginx,python", "--ways", "proxy-v2,toa")
    change = f"from dataclasses import replace\n{nobody}"
    code, (proxy, toa), *_ = run(tmp_path, "servers", *words, change=change)
    assert code == 1
    assert named(toa, "nginx") == ["", EDGE, "", EDGE6]
    assert named(toa, "python http.server") == ["", f"::ffff:{EDGE}", "", EDGE6]
    assert proxy["servers"]["nginx"]["IPv6"]["error"] == "HTTP 400 Bad Request"
    assert all(found["verdict"] == "fails" for found in proxy["servers"].values())
