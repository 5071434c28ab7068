# SPDX-License-Identifier: Apache-2.0
"""The process of an API server, from its start to its end.

SIGTERM ends it: event streams end, and those who follow come again to another server; calls under
way have ten seconds. SIGHUP has it read certificate and key again.
"""

import asyncio
import logging
import resource
import signal
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from cloud_toa import sd_notify
from cloud_toa.cluster.api import server
from cloud_toa.cluster.api.cluster import Cluster, Options
from cloud_toa.cluster.api.listening import Listening, names_in
from cloud_toa.cluster.api.patience import patient
from cloud_toa.cluster.model import people
from cloud_toa.cluster.store.opening import open_store
from cloud_toa.errors import ToaError
from cloud_toa.networks import IPNetwork

_log = logging.getLogger("cloud_toa.cluster")
_END_SECONDS = 10
_KEEP_ALIVE_SECONDS = 75
"""Longer than nodes are silent, so that each has one connection for all it says."""


class _Server(uvicorn.Server):
    """Ends event streams first, which would never end; and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, cluster: Cluster) -> None:
        super().__init__(config)
        self._cluster = cluster

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not here: the store is still to be closed after the last answer."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        self._cluster.end_streams()
        await super().shutdown(sockets)


async def run(
    store_url: str,
    listening: Listening,
    hosts: tuple[str, ...] = (),
    pages: server.Pages | None = None,
    proxies: tuple[IPNetwork, ...] = (),
) -> None:
    """Serve until a signal comes.

    Raises:
        ToaError: it can't; the message says why.
    """
    # Each node has two connections.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Python has 256 KB for what a TLS connection reads, all filled with zeros; a TLS record has 16.
    SSLProtocol.max_size = 16 << 10
    context = listening.context()
    store = await open_store(store_url)
    sock = None
    named = names_in(listening.certificate) if listening.certificate else ()
    known = (*hosts, *named, socket.gethostname(), socket.getfqdn())
    options = Options(tuple(host.lower() for host in known), proxies)
    cluster = Cluster(store, options)
    try:
        sock = listening.bind()
        await cluster.start()
        if token := await people.setup_token(cluster.store):
            hours = int(people.SETUP_SECONDS // 3600)
            print(
                f"Make the first administrator, once and within {hours} hours:\n"
                f"{listening.url}/setup?token={token}",
                flush=True,
            )
        await _serve(server.app(cluster, pages), cluster, sock, listening, context)
    finally:
        if sock is not None:
            sock.close()
        await cluster.stop()


async def _serve(
    app: ASGIApp,
    cluster: Cluster,
    sock: socket.socket,
    listening: Listening,
    context: ssl.SSLContext | None,
) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=patient(AutoHTTPProtocol),
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        backlog=2048,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
        ssl_context_factory=None if context is None else lambda *_: context,
    )
    serving = _Server(config, cluster)

    def end() -> None:
        serving.force_exit = serving.should_exit
        serving.should_exit = True

    def renew() -> None:
        if context is None:
            return
        try:
            listening.load(context)
        except ToaError as error:
            _log.error("the former certificate goes on: %s", error)
        else:
            _log.info("certificate and key were read again")

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, end)
    loop.add_signal_handler(signal.SIGINT, end)
    loop.add_signal_handler(signal.SIGHUP, renew)
    _log.info("listens on %s", listening.url)
    sd_notify.ready()
    await serving.serve([sock])
    _log.info("has ended")
