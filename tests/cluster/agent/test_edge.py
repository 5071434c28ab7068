# SPDX-License-Identifier: Apache-2.0
"""What a node counts of an edge, some of whose counts can't be read for a moment."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_toa.cluster.agent import edge as module
from cloud_toa.cluster.agent.edge import EdgeNode
from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.rates import Samples
from cloud_toa.cluster.agent.traffic import Passed
from cloud_toa.cluster.model.protocol import Counts, Facts, Sample
from cloud_toa.errors import ToaError
from cloud_toa.node import status

FACTS = Facts(version="0.1.0", kernel="6.1.0", architecture="x86_64", hostname="edge-1")
EVERY = 0.05
HOUR = 3600.0


class Counted:
    """HAProxy's counts at each look, and the sender's; None where they can't be read."""

    def __init__(self, passed: Sequence[int | None], carried: Sequence[int | None]) -> None:
        self._passed, self._carried = list(passed), list(carried)
        self.all_read = asyncio.Event()

    async def read(self, _: Path) -> Passed:
        if not self._passed:
            self.all_read.set()
            await asyncio.sleep(HOUR)
        count = self._passed.pop(0)
        if count is None:
            raise ToaError("HAProxy does not answer")
        return Passed({"web": Counts(connections=count)}, {}, count)

    def counters(self) -> dict[str, int] | None:
        count = self._carried.pop(0) if self._carried else None
        if count is None:
            raise ToaError("the kernel does not answer")
        return {"connections": count}


def sampled(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    passed: Sequence[int | None],
    carried: Sequence[int | None],
) -> list[Sample]:
    async def run() -> list[Sample]:
        counted, samples, kept = Counted(passed, carried), Samples(), Kept(folder)
        monkeypatch.setattr(module, "EVERY", EVERY)
        monkeypatch.setattr(status, "bpf_counters", counted.counters)
        node = EdgeNode(kept, FACTS, samples)
        places = SimpleNamespace(master=folder)
        services = SimpleNamespace(balancer=SimpleNamespace(places=places))
        node._edge = SimpleNamespace(chosen=SimpleNamespace(datapath="bpf"), services=services)  # type: ignore[assignment]
        node._traffic = counted  # type: ignore[assignment]
        task = asyncio.create_task(node.sample())
        await asyncio.wait_for(counted.all_read.wait(), 10)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        kept.close()
        return list(samples.waiting)

    return asyncio.run(run())


def test_counts_that_can_t_be_read_are_not_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no sample of that time, and the next one is over all of it."""
    million = 1_000_000
    carried = (million, million + 10, million + 20)
    first, second = sampled(tmp_path, monkeypatch, (*carried[:2], None, carried[2]), carried)
    assert second.time - first.time >= 2 * EVERY
    assert 0 < second.connections["web"] <= 10 / (2 * EVERY)
    assert 0 < second.with_toa <= 10 / (2 * EVERY)
    assert second.without_toa == 0.0


def test_the_sender_s_counts_can_t_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HAProxy's are told all the same, and none of the sender's is told twice."""
    million = 1_000_000
    passed = [million + 10 * at for at in range(4)]
    carried = (million, million + 10, None, million + 30)
    samples = sampled(tmp_path, monkeypatch, passed, carried)
    assert len(samples) == 3
    assert all(0 < sample.connections["web"] <= 10 / EVERY for sample in samples)
    assert [sample.with_toa > 0 for sample in samples] == [True, False, True]
    assert samples[2].with_toa <= 20 / EVERY


def test_the_sender_s_counts_can_t_be_read_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have counted for days, in programs that were there before."""
    million = 1_000_000
    passed = [million + 10 * at for at in range(3)]
    first, second = sampled(tmp_path, monkeypatch, passed, (None, million, million + 10))
    assert first.with_toa == 0.0
    assert 0 < second.with_toa <= 10 / EVERY
