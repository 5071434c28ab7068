# SPDX-License-Identifier: Apache-2.0
"""What one API server has in its hands: the store, and what it tells whom. No state of its own."""

import asyncio
import logging
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from cloud_toa.cluster.api.console_streams import ConsoleStreams
from cloud_toa.cluster.api.log_keeper import LogKeeper
from cloud_toa.cluster.api.node_streams import NodeStreams
from cloud_toa.cluster.api.status_writer import StatusWriter
from cloud_toa.cluster.model.samples import Keeper, Totals
from cloud_toa.cluster.store import Store
from cloud_toa.cluster.store.mirror import Mirror
from cloud_toa.networks import IPNetwork

HELD = ("settings", "nodes/", "status/", "alive/", "tests/", "users/", "sessions/", "tokens/")
"""What is read often, or must be readable while the store is away."""


@dataclass(frozen=True)
class Options:
    """How a server is reached."""

    hosts: tuple[str, ...] = ()
    """Names that it is known by, beside addresses and localhost; ``*.example.com`` as well."""
    proxies: tuple[IPNetwork, ...] = ()
    """Whose word on where a call comes from, and whether by TLS, counts."""


class Cluster:
    """One for each process; ``request.app.state.cluster``."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store = Mirror(store, HELD)
        self.options = options
        self.log = logging.getLogger("cloud_toa.cluster")
        self.totals = Totals()
        self.nodes = NodeStreams(self.store)
        self.consoles = ConsoleStreams(self.store)
        self.logs = LogKeeper(self.store)
        self.samples = Keeper(self.store)
        self.statuses = StatusWriter(self.store, self.totals)
        self.joining = asyncio.Lock()
        """Each use of a join token is a change to it: nodes that use one together would have to
        try again and again."""

    async def start(self) -> None:
        """Read what is held, and begin to follow it.

        Raises:
            UnavailableError: the store does not answer.
        """
        self.store.listen(self.nodes.hear)
        self.store.listen(self.consoles.hear)
        await self.store.start()
        self.statuses.start()

    def end_streams(self) -> None:
        """Have every event stream end; who follows comes again, to another server."""
        self.nodes.end_all()
        self.consoles.end_all()

    async def stop(self) -> None:
        """Keep what is to be kept, and let go of the store."""
        self.end_streams()
        await self.statuses.stop()
        await self.consoles.stop()
        await self.store.close()


def cluster_of(request: HTTPConnection) -> Cluster:
    """The cluster that a call is about."""
    found: Cluster = request.app.state.cluster
    return found
