# SPDX-License-Identifier: Apache-2.0
"""status_writer.py: the sums for charts, on a store that does not take all of them."""

import asyncio
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from cloud_toa.cluster.api.status_writer import StatusWriter
from cloud_toa.cluster.model.protocol import Sample
from cloud_toa.cluster.model.samples import BUCKET, Totals
from cloud_toa.cluster.store import Put, UnavailableError
from cloud_toa.errors import ToaError

BEGIN = time.time() // BUCKET * BUCKET - 3 * BUCKET


class Choosy:
    """A store that says of each change in turn what is wrong with it."""

    def __init__(self, *errors: Exception | None) -> None:
        self._errors = list(errors)
        self.tried: list[str] = []
        self.kept: list[str] = []
        self.waits: asyncio.Event | None = None

    async def change(self, put: Put) -> int:
        self.tried.append(put.key)
        if self.waits is not None:
            self.waits.set()
            await asyncio.Event().wait()
        error = self._errors.pop(0) if self._errors else None
        if error is not None:
            raise error
        self.kept.append(put.key)
        return 1


def writer_of(store: Choosy) -> StatusWriter:
    totals = Totals()
    for at in range(3):
        totals.add(
            [Sample(time=BEGIN + at * BUCKET, connections={}, bytes={}, with_toa=1, without_toa=0)]
        )
    return StatusWriter(SimpleNamespace(store=store), totals)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [ToaError, ValueError])
def test_what_is_too_large_is_in_no_ones_way(
    wrong: Callable[[str], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    """It is let go of; what the store could not keep now is tried again, and nothing else."""

    async def run() -> None:
        store = Choosy(wrong("too large"), UnavailableError("it is away"))
        writer = writer_of(store)
        with pytest.raises(UnavailableError, match="it is away"):
            await writer._keep_totals()
        large, away, good = store.tried
        assert store.kept == [good]
        await writer._keep_totals()
        assert store.kept == [good, away]
        await writer._keep_totals()
        assert store.tried == [large, away, good, away]
        assert [each for each in caplog.messages if "too large" in each]

    asyncio.run(run())


def test_an_end_in_the_middle_loses_nothing() -> None:
    async def run() -> None:
        store = Choosy()
        store.waits = asyncio.Event()
        writer = writer_of(store)
        task = asyncio.create_task(writer._keep_totals())
        await store.waits.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.waits = None
        await writer.stop()
        assert len(store.kept) == 3

    asyncio.run(run())
