# SPDX-License-Identifier: Apache-2.0
"""Sources that are played."""

import asyncio
from pathlib import Path

import pytest

from cloud_toa.cluster.agent import source as module
from tests.cluster.agent.playing import Act, Play, Played


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(module, "_AGAIN", (0.0,))

    def play(act: Act) -> None:
        async def run() -> None:
            played = Played(tmp_path)
            try:
                await act(played)
            finally:
                played.source._stop_retry()
                played.kept.close()

        asyncio.run(run())

    return play
