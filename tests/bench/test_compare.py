# SPDX-License-Identifier: Apache-2.0
"""`bench/compare` by the real command, for a second; and a way that does not work is refused."""

from pathlib import Path

import pytest

from tests.bench.command import run

pytestmark = [pytest.mark.slow, pytest.mark.one_kernel]

FEW = ("--rounds", "1", "--seconds", "1", "--rate", "200", "--modes", "plain,toa")


def test_ratios_are_those_of_the_round(tmp_path: Path) -> None:
    done = run(tmp_path, "compare", *FEW)
    assert done.code == 0
    plain, toa = done.rows
    assert (plain["what"], toa["what"]) == ("plain", "TOA")
    for name in ("rate", "cpu", "p50", "p99", "gbits"):
        ((of_plain,), (of_toa,)) = plain["rounds"], toa["rounds"]
        ratio = of_toa[name] / of_plain[name]
        assert toa[name] == {"median": of_toa[name], "plain": [pytest.approx(ratio)] * 3}
        assert plain[name]["plain"] == [1, 1, 1]
    assert plain["rate"]["median"] > 300
    assert 0.01 < plain["p50"]["median"] <= plain["p99"]["median"]
    assert f"{plain['rate']['median']:,.0f}" in done.out


def test_a_way_that_does_not_work(tmp_path: Path) -> None:
    nobody = "compare.MODES['toa'] = replace(compare.MODES['toa'], receiver='')"
    done = run(tmp_path, "compare", *FEW, change=f"from dataclasses import replace\n{nobody}")
    assert done.code != 0
    assert "mode toa does not work: the origin sees 10.9.0.1" in done.err
