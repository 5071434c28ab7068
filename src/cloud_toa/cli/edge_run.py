# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge run`` and ``edge reload``: a load balancer with the sender inside."""

import argparse
import logging
import os
import shlex
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError

_log = logging.getLogger(__name__)
_PATIENCE = 90.0
"""Seconds for the node to say what came of it: more than HAProxy has to serve."""


def add(actions: Subparsers) -> None:
    """Add ``edge run`` and ``edge reload``."""
    run = actions.add_parser(
        "run",
        help="a TCP/TLS load balancer that names its clients to origins",
        description="Carry connections to origins, which see the clients. Services stand in a "
        "file (cloud-toa config schema), or one on the command line. A changed file is applied "
        "by itself; one that is wrong is refused, and what was goes on.",
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="the edge's TOML file")
    run.add_argument("--listen", metavar="IP:PORT", help="one service: where it listens")
    run.add_argument("--origin", metavar="HOST:PORT", help="one service: its origin")
    run.add_argument("--debug", action="store_true", help="log more")
    run.set_defaults(run=_run)
    reload = actions.add_parser(
        "reload", help="have a running edge read its file again, and say what came of it"
    )
    reload.set_defaults(run=_reload)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    import asyncio  # noqa: PLC0415

    from cloud_toa.node import edge_file, edge_run, edge_source, runlog  # noqa: PLC0415

    match arguments.config, arguments.listen, arguments.origin:
        case Path() as config, None, None:
            config = config.absolute()  # others read it as well, from elsewhere
            read = partial(edge_file.read, config)
        case None as config, str() as listen, str() as origin if listen and origin:
            read = partial(edge_file.for_one, listen, origin)
        case _:
            raise ToaError(
                "edge run takes --config FILE, or --listen IP:PORT and --origin HOST:PORT"
            )
    read()
    runlog.start(arguments.debug)
    _log.info("starting ...")
    _log.info("args: %s", shlex.join(sys.argv[1:]))

    async def run() -> None:
        await edge_run.run(edge_source.Local(read, config))

    asyncio.run(run())
    return 0


def _reload(_: argparse.Namespace) -> int:
    pid, asked = _running()["pid"], time.monotonic()
    os.kill(pid, signal.SIGHUP)
    # Another reading, of the file as it was before, may be under way.
    while (now := _running())["edge"]["read"] <= asked:
        if time.monotonic() > asked + _PATIENCE:
            raise ToaError(f"process {pid} said nothing in {_PATIENCE:.0f} s: see its log")
        time.sleep(0.02)  # a file is all that tells; it is there in tenths of a second
    if refused := now["edge"]["refused"]:
        raise ToaError(f"not applied, the former settings go on: {refused}")
    print("applied")
    return 0


def _running() -> dict[str, Any]:
    # As in _run.
    from cloud_toa.node import state  # noqa: PLC0415

    with suppress(TypeError, KeyError):
        found = state.running()
        if found is not None and found[0]["edge"]:
            return found[0]
    raise ToaError("no 'cloud-toa edge run' is at work here")
