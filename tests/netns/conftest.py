# SPDX-License-Identifier: Apache-2.0
"""A lab of three hosts, and the datapaths attached for one test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud_toa.bpf import edge, origin
from cloud_toa.config import EdgeSettings, OriginSettings
from cloud_toa.demo.lab import EDGE_TO_ORIGIN, Lab
from cloud_toa.option import Kinds
from cloud_toa.trust import Trust


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab
        edge.detach()
        origin.detach()


@pytest.fixture
def balancers(lab: Lab) -> Path:
    """The cgroup of the edge's load balancers; nothing is attached to it yet."""
    return lab.cgroup("edge")


@pytest.fixture
def servers(lab: Lab) -> Path:
    """The cgroup of the origin's servers; nothing is attached to it yet."""
    return lab.cgroup("origin")


@pytest.fixture
def sender(balancers: Path) -> Path:
    """The cgroup of the edge's load balancers, with the sender attached."""
    edge.attach([balancers], EdgeSettings())
    return balancers


@pytest.fixture
def receiver(servers: Path) -> Path:
    """The cgroup of the origin's servers, with a receiver that trusts the edge."""
    receive(servers)
    return servers


def receive(
    servers: Path, kinds: Kinds | None = None, trust: str = "", save_syn: bool = False
) -> None:
    believed = Trust.parse([trust] if trust else EDGE_TO_ORIGIN.values())
    origin.attach([servers], OriginSettings(believed, kinds or Kinds(), save_syn))


Receive = Callable[..., None]
