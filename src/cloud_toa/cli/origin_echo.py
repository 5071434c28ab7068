# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa origin echo``: a server that tells each client whom it sees."""

import argparse

from cloud_toa.cli.report import Subparsers


def add(actions: Subparsers) -> None:
    """Add ``origin echo``."""
    echo = actions.add_parser(
        "echo",
        help="a server that tells its clients whom it sees, to try an edge by",
        description="Listen, and answer each connection with whom this host sees at its other "
        "end, as JSON. 'cloud-toa edge test' on the edge asks it.",
    )
    echo.add_argument(
        "--listen", required=True, metavar="[IP:]PORT", help="such as 7000 or 192.0.2.7:7000"
    )
    echo.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.balancer.addresses import Listen  # noqa: PLC0415
    from cloud_toa.origin import echo  # noqa: PLC0415

    text = arguments.listen
    listen = Listen.parse(f"[::]:{text}" if text.isdecimal() else text)
    with echo.server(str(listen.ip), listen.first) as server:
        print(f"origin echo: listening on {listen}", flush=True)
        server.serve_forever()
    return 0
