# SPDX-License-Identifier: Apache-2.0
"""edge_services.py: what is said of services while HAProxy is being told."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from cloud_toa.balancer.process import Balancer
from cloud_toa.errors import ToaError
from cloud_toa.node import edge_file, edge_sender
from cloud_toa.node.choice import Chosen
from cloud_toa.node.edge_file import EdgeFile
from cloud_toa.node.edge_services import FixedError, Services
from cloud_toa.node.settings import RunSettings
from cloud_toa.node.state import State


class Drained(Balancer):
    """HAProxy with a worker that began drained, and can only be reloaded."""

    def __init__(self, services: Services, *, loads: bool) -> None:
        places = services.balancer.places
        super().__init__("haproxy", places, services.cgroup, ())
        self._services, self._loads = services, loads
        self.seen: list[bool] = []

    async def tell(self, _: list[str]) -> None:
        self.seen.append(self._services.drained)
        raise ToaError("HAProxy refuses it")

    async def reload(self, _: str) -> None:
        self.seen.append(self._services.drained)
        if not self._loads:
            raise ToaError("HAProxy could not load it")


@pytest.fixture
def services() -> Iterator[Services]:
    state = State()
    services = Services(
        edge_file.for_one("192.0.2.1:80", "192.0.2.7:80"), Chosen("bpf", "so it is"), state
    )
    yield services
    services.leave()
    state.close({})


@pytest.mark.parametrize("drained", [True, False])
@pytest.mark.parametrize("loads", [True, False])
def test_drained_is_said_when_it_is_so(services: Services, drained: bool, loads: bool) -> None:
    services.drained = not drained
    services.balancer = balancer = Drained(services, loads=loads)
    if loads:
        asyncio.run(services.drain(drained))
    else:
        with pytest.raises(ToaError, match="could not load"):
            asyncio.run(services.drain(drained))
    assert balancer.seen == [not drained] * 2
    assert services.drained == (drained if loads else not drained)


class Willing(Balancer):
    """HAProxy that takes any configuration."""

    async def check(self, _: str) -> None:
        pass


def test_what_no_start_could_apply_needs_none(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused: an edge that ended for it would end for nothing."""
    services.balancer = Willing("haproxy", services.balancer.places, services.cgroup, ())
    services.balancer.places.certificates.mkdir(exist_ok=True)
    other = replace(services.file, toa=replace(services.file.toa, min_queue_id=9))
    with pytest.raises(FixedError, match=r"toa\.min_queue_id can't change"):
        asyncio.run(services.apply(other))
    settings = edge_sender.settings

    def refusing(file: EdgeFile, *others: Any) -> RunSettings:
        if file is other:
            raise ToaError("there are no such queues")
        return settings(file, *others)

    monkeypatch.setattr(edge_sender, "settings", refusing)
    with pytest.raises(ToaError, match="no such queues"):
        asyncio.run(services.apply(other))
