# SPDX-License-Identifier: Apache-2.0
"""What came of an attack."""

import msgspec


class Tally(msgspec.Struct):
    """Counts are of connections where nothing else is said."""

    false: int
    """Of whom the server saw somebody who it should not have seen."""
    accepted: int
    """By the server, real ones too."""
    false_ones: list[str] = []
    """Whom it saw instead, some of them."""
    connections: int = 0
    """By hand."""
    missing: int = 0
    """Of these, those that the server never heard."""
    packets: int = 0
    """Of a flood."""
    rate: float = 0.0
    """Packets a second that the attacker's device took."""
    arrived: float = 0.0
    """Packets a second at the origin, whoever sent them."""
    clients: int = 0
    """Of real clients, during a flood or none."""
    right: int = 0
    """Of these, those whose server saw their client."""
    without: int = 0
    """Whose server saw the edge."""
    failed: int = 0
    failures: dict[str, int] = {}
    p50: float = 0.0
    """Seconds from a client's connect() to its answer."""
    p99: float = 0.0
    before: dict[str, int] = {}
    """What `kernel_memory` counts, before a flood."""
    most: dict[str, int] = {}
    after: dict[str, int] = {}
    kernel_counts: dict[str, int] = {}
    """What the origin's kernel counted of SYNs, as nstat(8) names it."""
