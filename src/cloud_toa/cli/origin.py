# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa origin``: servers see the client that a trusted edge names."""

import argparse
import json

from cloud_toa.bpf import cgroup, origin
from cloud_toa.cli import report
from cloud_toa.cli.report import Subparsers
from cloud_toa.config import OriginSettings
from cloud_toa.option import Kinds, parse_kinds
from cloud_toa.trust import Trust


def add(verbs: Subparsers) -> None:
    """Add ``origin attach|detach|status``."""
    parser = verbs.add_parser("origin", help="the receiver, on the server's host")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    attach = actions.add_parser(
        "attach",
        help="let servers see the client that a trusted edge names",
        description="Let accept() and getpeername() of the servers in a cgroup answer the client "
        "that an edge has put into a TCP option. Only edges that --trust lists are believed. "
        "Running again with other settings changes them without a gap.",
    )
    attach.add_argument(
        "--trust",
        nargs="+",
        action="extend",
        required=True,
        metavar="CIDR",
        help="the edges' addresses or networks; 'any' believes everyone",
    )
    report.add_kinds(attach)
    attach.add_argument(
        "--cgroup",
        action="append",
        metavar="PATH_OR_UNIT",
        help="a cgroup2 directory or a systemd unit (default: the root, every container too)",
    )
    attach.add_argument(
        "--save-syn",
        action="store_true",
        help="keep the SYN of connections to listeners that start from now on, for edges that "
        "write the option nowhere else (costs memory per connection)",
    )
    attach.set_defaults(run=_attach)

    detach = actions.add_parser("detach", help="stop reading; connections go on")
    report.add_cgroups(detach)
    detach.set_defaults(run=_detach)

    status = actions.add_parser("status", help="settings, cgroups, counters, cost")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)


def _attach(arguments: argparse.Namespace) -> int:
    settings = OriginSettings(
        Trust.parse(arguments.trust),
        Kinds(
            parse_kinds(arguments.kinds_v4),
            parse_kinds(arguments.kinds_v6),
            parse_kinds(arguments.kinds_client_ip),
        ),
        arguments.save_syn,
    )
    cgroups = [cgroup.resolve(name) for name in dict.fromkeys(arguments.cgroup or ["/"])]
    report.outcome("origin", origin.attach(cgroups, settings), cgroups)
    report.unit_hint(arguments.cgroup or [])
    return 0


def _detach(arguments: argparse.Namespace) -> int:
    report.detached("origin", origin.detach(report.cgroups(arguments)))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    status = origin.status()
    if status is None:
        return report.not_attached("origin", arguments.json)
    settings = {
        "trust": str(status.settings.trust).split(),
        "kinds_v4": list(status.settings.kinds.v4),
        "kinds_v6": list(status.settings.kinds.v6),
        "kinds_client_ip": list(status.settings.kinds.client_ip),
        "save_syn": status.settings.save_syn,
    }
    shown = report.status(settings, status.cgroups, status.counters, status.programs)
    print(json.dumps(shown) if arguments.json else report.text("origin", shown))
    return 0
