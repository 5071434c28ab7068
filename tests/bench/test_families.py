# SPDX-License-Identifier: Apache-2.0
"""`bench/families` by the real command: which server keeps IP versions apart, and whom it sees."""

from pathlib import Path
from typing import Any

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

CLIENT, MAPPED, EDGE, CLOSED = "client", "::ffff:client", "edge", "closed"


def verdicts(row: dict[str, Any]) -> list[str]:
    """By IPv4's address, IPv6's and both, of an IPv4 client and an IPv6 client each."""
    return [cell["verdict"] for cell in row["cells"].values()]


def test_servers_that_keep_them_apart(tmp_path: Path) -> None:
    code, rows, *_ = run(tmp_path, "families", "--servers", "redis,nginx")
    assert code == 0
    apart = [
        [CLIENT, EDGE, CLOSED, CLOSED, CLIENT, EDGE],
        [CLOSED, CLOSED, MAPPED, CLIENT, MAPPED, CLIENT],
    ]
    each_its_own = [CLIENT, EDGE, MAPPED, CLIENT, CLIENT, CLIENT]
    together = [MAPPED, CLIENT, MAPPED, CLIENT, MAPPED, CLIENT]
    assert list(map(verdicts, rows)) == [*apart, each_its_own, *apart, together, each_its_own]


def test_a_client_that_is_lost(tmp_path: Path) -> None:
    change = "families.paths.receive = lambda *_: None"
    code, rows, _, err = run(tmp_path, "families", "--servers", "redis", change=change)
    assert code == 1
    assert verdicts(rows[-1]) == [EDGE] * 6
    assert "redis: `bind * -::*`: IPv4 to both: edge" in err
