# SPDX-License-Identifier: Apache-2.0
"""edge_services.py: what is said of services while HAProxy is being told."""

import asyncio
from collections.abc import Iterator

import pytest

from cloud_toa.balancer.process import Balancer
from cloud_toa.errors import ToaError
from cloud_toa.node import edge_file
from cloud_toa.node.choice import Chosen
from cloud_toa.node.edge_services import Services
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
