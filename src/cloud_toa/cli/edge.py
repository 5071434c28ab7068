# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa edge``: load balancers in a cgroup name the client in a TCP option."""

import argparse
import json

from cloud_toa.bpf import cgroup, edge, mounts, others
from cloud_toa.bpf.pinned import Pinned
from cloud_toa.cli import edge_run, edge_test, edge_top, report
from cloud_toa.cli.report import Subparsers
from cloud_toa.config import EdgeSettings, NoPort, Where
from cloud_toa.networks import ANY
from cloud_toa.option import parse_kind
from cloud_toa.origins import Origins

_DEFAULT = EdgeSettings()


def add(verbs: Subparsers) -> None:
    """Add ``edge run|reload|top|test|attach|detach|status``."""
    parser = verbs.add_parser("edge", help="the sender, on the load balancer's host")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    edge_run.add(actions)
    edge_top.add(actions)
    edge_test.add(actions)
    attach = actions.add_parser(
        "attach",
        help="write the option for connections of a load balancer",
        description="Let the load balancers in a cgroup write their client into a TCP option. "
        "They name the client by connecting from its address: HAProxy 'source 0.0.0.0 usesrc "
        "client', nginx 'proxy_bind $remote_addr:$remote_port transparent'. Settings hold for "
        "all attached cgroups; running again with others changes them without a gap.",
    )
    attach.add_argument(
        "--cgroup",
        action="append",
        required=True,
        metavar="PATH_OR_UNIT",
        help="a cgroup2 directory, or a systemd unit such as nginx.service (repeatable)",
    )
    for family in ("v4", "v6"):
        attach.add_argument(
            f"--option-type-{family}",
            default="254",
            metavar="KIND",
            help=f"the TCP option's kind for IP{family} clients (default 254)",
        )
    attach.add_argument(
        "--where",
        default=str(_DEFAULT.where),
        metavar="LIST",
        help=f"packets that get it, until the origin answers (default {_DEFAULT.where})",
    )
    attach.add_argument(
        "--origin",
        action="append",
        metavar="CIDR[:PORT]",
        help="write it for connections to these alone, such as 192.0.2.0/24:443 or "
        f"[2001:db8::7]:443 (repeatable; default {ANY})",
    )
    attach.add_argument(
        "--no-port",
        default=_DEFAULT.no_port.value,
        metavar="WAY",
        help="what is sent of a client that was named without a port: 'connection', its address "
        "with the connection's own source port (default); 'client-ip', the layout without a port, "
        "of kind 28; 'skip', nothing",
    )
    attach.add_argument(
        "--control",
        action="store_true",
        help="let 'cloud-toa run -sock' name clients by local port as well",
    )
    attach.add_argument(
        "--only-named",
        action="store_true",
        help="leave transparent sockets alone: clients are named on the control socket, or by "
        "setsockopt",
    )
    attach.set_defaults(run=_attach)

    detach = actions.add_parser(
        "detach",
        help="stop writing; connections go on",
        description="Take the sender off. Take the transparent source out of the load balancer's "
        "configuration first: without the sender it connects from the client's own address, to "
        "which the origin has no way back.",
    )
    report.add_cgroups(detach)
    detach.set_defaults(run=_detach)

    status = actions.add_parser("status", help="settings, cgroups, counters, cost")
    status.add_argument("--json", action="store_true", help="print one JSON object")
    status.set_defaults(run=_status)


def _attach(arguments: argparse.Namespace) -> int:
    settings = EdgeSettings(
        parse_kind(arguments.option_type_v4),
        parse_kind(arguments.option_type_v6),
        Where.parse(arguments.where),
        Origins.parse([ANY] if arguments.origin is None else arguments.origin),
        arguments.control,
        no_port=NoPort.parse(arguments.no_port),
        only_named=arguments.only_named,
    )
    mounts.require()
    cgroups = [cgroup.resolve(name) for name in dict.fromkeys(arguments.cgroup)]
    report.outcome("edge", edge.attach(cgroups, settings), cgroups)
    report.unit_hint(arguments.cgroup)
    return 0


def _detach(arguments: argparse.Namespace) -> int:
    report.detached("edge", edge.detach(report.cgroups(arguments)))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.node import status as node  # noqa: PLC0415

    running = node.edge_run()
    beside = {} if running is None else {"edge": running}
    lines = "" if running is None else report.services_text(running) + "\n"
    if (queue := node.queue()) is not None:
        queue |= beside
        print(json.dumps(queue) if arguments.json else lines + report.queue_text(queue))
        return 0
    status = edge.status()
    if status is None:
        return report.not_attached("edge", arguments.json)
    settings = {
        "option_type_v4": status.settings.option_type_v4,
        "option_type_v6": status.settings.option_type_v6,
        "where": str(status.settings.where),
        "origins": str(status.settings.origins).split(),
        "no_port": status.settings.no_port.value,
        "refuse_elsewhere": status.settings.refuse_elsewhere,
        "control": status.settings.control,
    }
    met = others.beside(Pinned(edge.DATAPATH))
    shown = {
        "datapath": "bpf",
        **report.status(
            settings,
            status.cgroups,
            status.counters,
            status.programs,
            removed=status.removed,
            beside=met,
        ),
        **beside,
    }
    print(json.dumps(shown) if arguments.json else lines + report.text("edge", shown, met))
    return 0
