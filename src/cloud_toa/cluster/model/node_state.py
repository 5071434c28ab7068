# SPDX-License-Identifier: Apache-2.0
"""What state a node is in. Pure."""

from typing import Literal

from cloud_toa.cluster.model.protocol import Status

State = Literal["online", "syncing", "failed", "offline"]

SKEW = 5.0
"""Seconds that a node's clock may differ from the server's before anybody is told."""


def state(status: Status | None, alive: bool, wanted: int) -> State:
    """A node's state.

    - offline: nothing was heard for 45 s, or ever.
    - failed: it says why it can't apply the revision that is wanted.
    - syncing: it has another revision in force than the one that is wanted, and no word of why.
    - online: it has.
    """
    if not alive or status is None:
        return "offline"
    if status.applied.revision == wanted:
        return "online"
    if status.applied.error and status.applied.wanted == wanted:
        return "failed"
    return "syncing"


def skew(status: Status, heard: float) -> float:
    """Seconds by which a node's clock is ahead of the server's; 0 where it does not matter."""
    ahead = status.time - heard
    return ahead if abs(ahead) > SKEW else 0.0
