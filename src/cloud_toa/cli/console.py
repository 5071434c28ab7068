# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa console``: an API server of a cluster, with the console for browsers."""

import argparse
import asyncio
import logging
import shlex
import sys
from pathlib import Path

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import ToaError

_log = logging.getLogger("cloud_toa.cluster")
_STORE = "sqlite:///var/lib/cloud-toa/console/cluster.db"


def add(verbs: Subparsers) -> None:
    """Add ``console``."""
    parser = verbs.add_parser(
        "console",
        help="settings for many edges: an API server and its web console",
        description="Serve a cluster's console and API, which nodes follow as well. As long as "
        "there is no administrator, each start prints a link that makes the first one. "
        "Several of these may serve one store. SIGHUP reads certificate and key again.",
    )
    parser.add_argument(
        "--listen",
        metavar="IP:PORT",
        default="127.0.0.1:7788",
        help="where (default 127.0.0.1:7788)",
    )
    parser.add_argument(
        "--store",
        metavar="URL",
        default=_STORE,
        help=f"sqlite:///FILE or etcd://HOST,HOST,... (default {_STORE})",
    )
    parser.add_argument(
        "--tls-certificate", type=Path, metavar="FILE", help="PEM, with its chain: serve HTTPS"
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="FILE", help="PEM; left out if it is in the same file"
    )
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that browsers and nodes call this server by, beside those in its "
        "certificate; *.example.com as well (repeatable)",
    )
    parser.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="CIDR",
        help="a reverse proxy in front: where it says by X-Forwarded-For that a call comes from "
        "counts for limits and logs, and X-Forwarded-Proto: https is believed; nobody else's word "
        "is (repeatable)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="listen without TLS where others can read passwords and tokens on the way",
    )
    parser.add_argument("--debug", action="store_true", help="log more, nodes' calls as well")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs, nor need its packages.
    try:
        from cloud_toa.cluster.api import forwarded, listening, process  # noqa: PLC0415
        from cloud_toa.cluster.console.pages import pages  # noqa: PLC0415
    except ImportError as error:
        raise ToaError(f"{error.name} is not installed: pip install 'cloud-toa[cluster]'") from None
    from cloud_toa.node import runlog  # noqa: PLC0415

    if arguments.tls_key and not arguments.tls_certificate:
        raise ToaError("--tls-key is without --tls-certificate: name both")
    place = listening.Listening(
        *listening.parse(arguments.listen), arguments.tls_certificate, arguments.tls_key
    )
    if place.certificate is None and not place.loopback and not arguments.insecure:
        raise ToaError(
            f"--listen {arguments.listen} can be reached by others, and passwords would pass "
            "without TLS: add --tls-certificate and --tls-key, listen on 127.0.0.1, or say "
            "--insecure"
        )
    proxies = forwarded.proxies(arguments.trusted_proxy)
    runlog.start(arguments.debug)
    _log.info("starting ...")
    _log.info("args: %s", shlex.join(_without_password(sys.argv[1:])))
    hosts = tuple(arguments.host)
    asyncio.run(process.run(arguments.store, place, hosts, pages(), proxies))
    return 0


def _without_password(arguments: list[str]) -> list[str]:
    """What is between ``:`` and ``@`` in the store's URL is nobody else's."""
    shown = []
    for argument in arguments:
        before, at, behind = argument.rpartition("@")
        if at and "://" in before:
            scheme, _, credentials = before.partition("://")
            before = f"{scheme}://{credentials.partition(':')[0]}:..."
        shown.append(f"{before}{at}{behind}")
    return shown
