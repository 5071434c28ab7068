# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa origin``: servers see the client that a trusted edge names."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from cloud_toa import doctor, foreign_modules, kmod
from cloud_toa.bpf import cgroup, mounts, origin, others
from cloud_toa.bpf.others import Other
from cloud_toa.bpf.pinned import Pinned
from cloud_toa.cli import origin_echo, report
from cloud_toa.cli.report import Subparsers
from cloud_toa.config import OriginSettings
from cloud_toa.doctor import ebpf, hooks
from cloud_toa.errors import ToaError
from cloud_toa.option import Kinds, parse_kinds
from cloud_toa.trust import Trust


def add(verbs: Subparsers) -> None:
    """Add ``origin attach|detach|status|echo``."""
    parser = verbs.add_parser("origin", help="the receiver, on the server's host")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    origin_echo.add(actions)
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
        help="eBPF only: a cgroup2 directory or a systemd unit (default: the root, every "
        "container too)",
    )
    attach.add_argument(
        "--save-syn",
        action="store_true",
        help="eBPF only: keep the SYN of connections to listeners that start from now on, for "
        "edges that write the option nowhere else (costs memory per connection)",
    )
    attach.add_argument(
        "--chain",
        action="store_true",
        help="where an option names an address that --trust lists, believe the next option, "
        "which is that edge's own: for edges behind a load balancer that adds one in front "
        "(DPVS, LVS). Trust no address that clients can have",
    )
    attach.add_argument(
        "--datapath",
        choices=("auto", "bpf", "kmod"),
        default="auto",
        help="by eBPF, or by the kernel module toa.ko, for kernels without the hooks "
        "(default: auto, eBPF where it is to be had)",
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
        arguments.chain,
    )
    if _by_module(arguments.datapath):
        if arguments.cgroup:
            raise ToaError("the module serves the whole host: leave --cgroup out")
        changed = kmod.attach(settings)
        print(f"origin: {'toa.ko has these settings' if changed else 'toa.ko: nothing changed'}")
        return 0
    mounts.require()
    cgroups = [cgroup.resolve(name) for name in dict.fromkeys(arguments.cgroup or ["/"])]
    report.outcome("origin", origin.attach(cgroups, settings), cgroups)
    report.unit_hint(arguments.cgroup or [])
    for other in foreign_modules.find(ours=kmod.ours()):
        print(
            f"origin: another TOA receiver in the kernel answers too, and may believe everyone: "
            f"{other}; to end it: {other.command} (docs/migration.md)",
            file=sys.stderr,
        )
    return 0


def _by_module(datapath: str) -> bool:
    """Decide, and say why where it was left to us.

    The module is for kernels that refuse the programs. What else eBPF may lack, a command
    mends, which attaching then names.
    """
    if datapath != "auto":
        return datapath == "kmod"
    trials = hooks.attempt(origin.DATAPATH, privileged=ebpf.Privileges.own().suffice)
    release = os.uname().release
    if not doctor.lacks_ebpf(trials, release):
        return False
    refused = [f"{trial.hook.program} ({trial.reason})" for trial in trials if trial.reason]
    lack = f"refuses {refused[0]}" if refused else f"is {release}, and eBPF needs 5.10"
    print(f"origin: by the kernel module, as this kernel {lack}")
    return True


def _detach(arguments: argparse.Namespace) -> int:
    cgroups = report.cgroups(arguments)
    gone = origin.detach(cgroups)
    # The module is of the whole host, and goes where no cgroup is named.
    unloaded = cgroups is None and kmod.ours() and kmod.detach()
    if unloaded:
        print("origin: toa.ko unloaded")
    if gone or not unloaded:
        report.detached("origin", gone)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    met = others.beside(Pinned(origin.DATAPATH))
    shown = [found for found in (_bpf(met), _module()) if found]
    if not shown:
        return report.not_attached("origin", arguments.json)
    if arguments.json:
        print(json.dumps(shown[0] | ({"beside": shown[1]} if shown[1:] else {})))
    else:
        print("\n".join(report.text("origin", one, met) for one in shown))
    return 0


def _bpf(met: Sequence[Other]) -> dict[str, Any] | None:
    status = origin.status()
    if status is None:
        return None
    settings = _settings(status.settings)
    return {
        "datapath": "bpf",
        **report.status(
            settings,
            status.cgroups,
            status.counters,
            status.programs,
            removed=status.removed,
            beside=met,
        ),
    }


def _module() -> dict[str, Any] | None:
    status = kmod.status()
    if status is None:
        return None
    settings = {**_settings(status.settings), "table_size": status.table_size}
    counters = {**status.counters, "entries": status.entries}
    return {"datapath": "kmod", **report.status(settings, (), counters, (), removed=())}


def _settings(settings: OriginSettings) -> dict[str, Any]:
    return {
        "trust": str(settings.trust).split(),
        "kinds_v4": list(settings.kinds.v4),
        "kinds_v6": list(settings.kinds.v6),
        "kinds_client_ip": list(settings.kinds.client_ip),
        "save_syn": settings.save_syn,
        "chain": settings.chain,
    }
