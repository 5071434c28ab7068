# SPDX-License-Identifier: Apache-2.0
"""`bench/faults` by the real command: what is to cost nothing does, and what costs is seen."""

from pathlib import Path

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

FEW = ("--times", "1", "--calm", "0.3", "--at-once", "4")
SILENT_ABOUT_IT = """
def lost(edge):
    edge.detached()  # and not from when to when

faults.FAULTS["lost"] = faults.Fault("lost", faults.ByHand, lost)
"""


def test_what_is_to_cost_nothing(tmp_path: Path) -> None:
    names = "sender-otherwise,receiver-detached"
    code, (exchanged, detached), *_ = run(tmp_path, "faults", *FEW, "--faults", names)
    assert code == 0
    for row, what in ((exchanged, "eBPF sender: other"), (detached, "eBPF receiver: detached")):
        assert row["what"].startswith(what)
        assert row["connections"] > 50
        assert row["failed"] == row["wrong"] == row["without"] == 0
        assert row["times"] == 1
    assert exchanged["meanwhile_seconds"] == 0
    assert detached["meanwhile_failed"] == 0
    assert detached["meanwhile_without"] > 5


def test_time_without_toa_that_nobody_has_announced(tmp_path: Path) -> None:
    words = (*FEW, "--faults", "lost")
    code, (row,), *_ = run(tmp_path, "faults", *words, change=SILENT_ABOUT_IT)
    assert code == 1
    assert row["failed"] == row["wrong"] == row["meanwhile_seconds"] == 0
    assert 0.1 < row["seconds_without"] < 60
