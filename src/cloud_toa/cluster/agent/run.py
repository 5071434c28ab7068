# SPDX-License-Identifier: Apache-2.0
"""The node's process, from its start to its end: the edge, and the talk about it.

The edge begins with what is on the disk and waits for no server.
"""

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from cloud_toa import sd_notify
from cloud_toa.cluster.agent.api import Api
from cloud_toa.cluster.agent.edge import EdgeNode
from cloud_toa.cluster.agent.joining import Joining
from cloud_toa.cluster.agent.kept import Kept
from cloud_toa.cluster.agent.lines import Lines
from cloud_toa.cluster.agent.rates import Samples
from cloud_toa.cluster.agent.servers import Servers
from cloud_toa.cluster.agent.talk import Talk
from cloud_toa.cluster.model.protocol import Facts

_log = logging.getLogger(__name__)
_LAST_WORDS = 3.0


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    servers: Servers
    token_file: Path
    name: str
    state: Path


def facts() -> Facts:
    """Of this host."""
    host = os.uname()
    return Facts(
        version=version("cloud-toa"),
        kernel=host.release,
        architecture=host.machine,
        hostname=host.nodename,
    )


async def run(options: Options, kept: Kept, lines: Lines) -> None:
    """Be a node until a signal ends it."""
    samples = Samples()
    node = EdgeNode(kept, facts(), samples)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        loop.add_signal_handler(number, node.ask, number)
    loop.add_signal_handler(signal.SIGHUP, node.source.try_again)
    api = Api(options.servers)
    joining = Joining(kept, options.token_file, options.name, facts())
    talk = Talk(api, joining, node, lines, samples)
    talking = asyncio.create_task(_for_ever(talk))
    others = [asyncio.create_task(work) for work in (node.sample(), node.examine())]
    sd_notify.ready()
    try:
        await node.run()
        _log.info("stopped")
    finally:
        for task in (talking, *others):
            task.cancel()
        await asyncio.gather(talking, *others, return_exceptions=True)
        await talk.last_words(_LAST_WORDS)
        await api.close()


async def _for_ever(talk: Talk) -> None:
    """A fault in it is no reason for the edge to end."""
    while True:
        try:
            await talk.run()
        except Exception:
            _log.exception("a fault in the talk with the cluster: it begins anew")
            await asyncio.sleep(5)
