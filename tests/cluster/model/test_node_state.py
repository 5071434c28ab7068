# SPDX-License-Identifier: Apache-2.0
"""node_state.py: what state a node is in."""

import pytest

from cloud_toa.cluster.model import node_state
from cloud_toa.cluster.model.protocol import Applied, Facts, Status

FACTS = Facts(version="1", kernel="6.1", architecture="x86_64", hostname="edge")


def status(revision: int, wanted: int, error: str = "", time: float = 0.0) -> Status:
    return Status(
        facts=FACTS, time=time, applied=Applied(revision=revision, wanted=wanted, error=error)
    )


@pytest.mark.parametrize(
    ("said", "alive", "wanted", "state"),
    [
        (None, False, 0, "offline"),
        (None, True, 0, "offline"),
        (status(7, 7), False, 7, "offline"),
        (status(7, 7), True, 7, "online"),
        (status(0, 0), True, 0, "online"),
        (status(6, 6), True, 7, "syncing"),
        (status(6, 7), True, 7, "syncing"),
        (status(6, 7, "line 3"), True, 7, "failed"),
        # What it says is of a revision that nobody wants any more.
        (status(6, 7, "line 3"), True, 8, "syncing"),
        # Back to the one that is in force.
        (status(6, 7, "line 3"), True, 6, "online"),
    ],
)
def test_state(said: Status | None, alive: bool, wanted: int, state: str) -> None:
    assert node_state.state(said, alive, wanted) == state


@pytest.mark.parametrize(
    ("time", "heard", "ahead"),
    [(100.0, 100.0, 0.0), (104.0, 100.0, 0.0), (3700.0, 100.0, 3600.0), (100.0, 200.0, -100.0)],
)
def test_skew(time: float, heard: float, ahead: float) -> None:
    assert node_state.skew(status(1, 1, time=time), heard) == ahead
