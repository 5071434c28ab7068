# SPDX-License-Identifier: Apache-2.0
"""`bench/scale` by the real command, with few connections; and what must not be, is found."""

from pathlib import Path

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

FEW = "import scale_edges as s; s._FEW = 24; s._PAIRS = 1"
"""Of what fails and takes its time."""


def test_memory_that_each_end_adds(tmp_path: Path) -> None:
    words = ("--connections", "4000", "--rounds", "1", "--ways", "plain,bpf,bpf-bpf")
    soon = "import scale_memory as m; m._SETTLE = 1"
    code, (plain, sender, receiver), *_ = run(tmp_path, "scale", "memory", *words, change=soon)
    assert code == 0
    # Two TCP sockets are more than 2 KiB each; a client's few bytes are less than one.
    assert plain["bytes"] > 4096
    for row in (sender, receiver):
        # The socket's storage and what is kept there; other caches, others on this machine use.
        ours = [each for each in row["more"] if each["cache"].startswith("kmalloc-cg-")]
        assert [each["objects"] for each in ours] == pytest.approx([1, 1], abs=0.2)
        assert 200 < sum(each["size"] for each in ours) < 1024


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    words = ("--connections", "4000", "--rounds", "1", "--ways", "plain,bpf")
    nobody = "import scale_memory as m; m._SETTLE = 1; m.WAYS['bpf'] = m.Way('no', base='plain')"
    code, *_ = run(tmp_path, "scale", "memory", *words, change=nobody)
    assert code == 1


def test_ports_that_are_used_up(tmp_path: Path) -> None:
    words = ("--ports", "30", "--ways", "bound,plain,bpf,haproxy")
    code, (bound, plain, sender, haproxy), *_ = run(tmp_path, "scale", "ports", *words)
    assert code == 0
    assert [row["held"] for row in (bound, plain, sender, haproxy)] == [30] * 4
    # A port that is bound for any destination is one less for every other.
    assert bound["one_more"] == bound["other_port"] == "EADDRINUSE"
    assert plain["one_more"] == sender["one_more"] == "EADDRNOTAVAIL"
    for key in ("other_port", "other_origin", "wider", "other_edge"):
        assert plain[key] == "the edge"
        assert sender[key] == "right"
    assert sender["counted"] == {"clients": 1}
    assert any("no free ports" in line for line in haproxy["says"])


def test_ports_without_end(tmp_path: Path) -> None:
    wide = "import scale_ports as p; p._range = lambda *_: None"
    code, (row,), *_ = run(
        tmp_path, "scale", "ports", "--ports", "30", "--ways", "bpf", change=wide
    )
    assert code == 1
    assert row["held"] > 1000


def test_entries_in_conntrack(tmp_path: Path) -> None:
    words = ("--connections", "40", "--cases", "open")
    code, rows, *_ = run(tmp_path, "scale", "conntrack", *words)
    assert code == 0
    assert [row["entries"] for row in rows] == [40, 0, 40, 40]
    assert [row["right"] for row in rows] == [40] * 4


def test_entries_that_nobody_wants(tmp_path: Path) -> None:
    words = ("--connections", "20", "--cases", "open")
    alone = "import tracked_edge as t; t._FIREWALL = 'list tables'"
    code, *_ = run(tmp_path, "scale", "conntrack", *words, change=alone)
    assert code == 1


def test_edges_of_one_address(tmp_path: Path) -> None:
    words = ("--connections", "200", "--held", "60")
    code, (spread, pairs, withdrawn, after, *transparent), *_ = run(
        tmp_path,
        "scale",
        "edges",
        *words,
        change=FEW,
    )
    assert code == 0
    assert spread["right"] == after["right"] == 200
    assert min(spread["by_edge"]) > 50
    assert after["by_edge"] == [200, 0]
    assert pairs["right"] == 24 * 4
    assert withdrawn["failures"] == {"ECONNRESET": withdrawn["by_edge"][1]}
    assert withdrawn["right"] == withdrawn["by_edge"][0] == 60 - withdrawn["failed"]
    # What came by the other edge than the origin's route leads to, had no answer.
    one, other = transparent[0]["by_edge"]
    assert (transparent[0]["right"], transparent[0]["failed"]) == (one, other)
    assert transparent[1]["failed"]


def test_edges_that_are_not_trusted(tmp_path: Path) -> None:
    one = "import two_edges as e; e._TRUSTED = ('10.9.0.0/24', 'fd09::/64')"
    words = ("--connections", "100", "--held", "20")
    code, (spread, *_), *_ = run(tmp_path, "scale", "edges", *words, change=f"{one}\n{FEW}")
    assert code == 1
    assert spread["without"] == spread["by_edge"][1] > 20
    assert spread["wrong"] == 0
