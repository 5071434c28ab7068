# SPDX-License-Identifier: Apache-2.0
"""bench/attack: what it finds, and that it finds a receiver that believes too much."""

from pathlib import Path

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]


def test_no_false_address_by_hand_or_flood(tmp_path: Path) -> None:
    words = ("--cases", "direct,balancer,two-edge,flood", "--connections", "24", "--seconds", "1")
    code, rows, *_ = run(tmp_path, "attack", "--receivers", "bpf", *words)
    assert code == 0
    stranger, client, edge, flood = rows
    for by_hand in (stranger, client, edge):
        assert (by_hand["accepted"], by_hand["false"], by_hand["missing"]) == (24, 0, 0)
    assert (stranger["kept"], client["kept"], edge["kept"]) == (0, 24, 24)
    assert stranger["counters"]["untrusted"] == 24
    # Four of the six ways to name two have both in the packet that is read.
    assert edge["counters"]["duplicate"] == 16
    assert flood["packets"] > 1000
    assert flood["arrived"] > 1000
    assert flood["false"] == 0
    assert flood["right"] > 0
    assert flood["kept"] <= flood["accepted"]


def test_a_flood_that_takes_more_than_it_may(tmp_path: Path) -> None:
    words = ("--receivers", "bpf", "--cases", "flood", "--seconds", "1")
    code, _, _, err = run(tmp_path, "attack", *words, change="attack._MORE = -1 << 40")
    assert code == 1
    assert "bytes more in the kernel" in err


def test_a_receiver_that_believes_everyone(tmp_path: Path) -> None:
    words = ("--trust", "any", "--cases", "direct", "--connections", "8")
    code, (stranger,), *_ = run(tmp_path, "attack", "--receivers", "bpf", *words)
    assert code == 1
    assert stranger["false"] == stranger["accepted"] == 8
    assert any(peer.startswith("192.0.2.") for peer in stranger["false_ones"])
