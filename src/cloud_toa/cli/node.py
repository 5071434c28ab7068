# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa node``: an edge that has its settings from a cluster."""

import argparse
import asyncio
import logging
import platform
import shlex
import sys
from pathlib import Path

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError

_log = logging.getLogger("cloud_toa.cluster")
_STATE = Path("/var/lib/cloud-toa/node")


def add(verbs: Subparsers) -> None:
    """Add ``node``."""
    parser = verbs.add_parser(
        "node",
        help="an edge that has its settings from a cluster",
        description="Be an edge as 'edge run' is, by the settings of a cluster's console, and "
        "tell it how that goes. What was in force last is kept on the disk, and served by with "
        "no server in reach. Settings that can't be applied are reported, and what was goes on.",
    )
    parser.add_argument(
        "--server",
        action="append",
        required=True,
        metavar="URL",
        help="the console, such as https://console.example:7788 (repeatable: any that answers)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        required=True,
        metavar="FILE",
        help="with the join token; the node gets a token of its own for it, and keeps that",
    )
    parser.add_argument(
        "--name", default=platform.node(), help="of this node (default: the host's name)"
    )
    parser.add_argument(
        "--ca",
        type=Path,
        metavar="FILE",
        help="who may certify the console: PEM (default: this host's CAs)",
    )
    parser.add_argument(
        "--insecure", action="store_true", help="talk to http:// as well, for all to read"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=_STATE,
        metavar="FOLDER",
        help=f"what it keeps (default {_STATE})",
    )
    parser.add_argument("--debug", action="store_true", help="log more")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs, nor need its packages.
    try:
        from cloud_toa.cluster.agent import kept, lines, run, servers  # noqa: PLC0415
    except ImportError as error:
        raise ToaError(f"{error.name} is not installed: pip install 'cloud-toa[cluster]'") from None
    from cloud_toa.node import runlog  # noqa: PLC0415

    named = servers.parse(arguments.server, arguments.ca, insecure=arguments.insecure)
    state = kept.Kept(arguments.state.absolute())
    if state.identity() is None and not arguments.token_file.is_file():
        raise ToaError(
            f"--token-file {arguments.token_file} is not there: write a join token to it"
        )
    options = run.Options(named, arguments.token_file.absolute(), arguments.name, arguments.state)

    async def be() -> None:
        log = lines.Lines()
        runlog.start(arguments.debug, log)
        _log.info("starting ...")
        _log.info("args: %s", shlex.join(sys.argv[1:]))
        await run.run(options, state, log)

    asyncio.run(be())
    return 0
