# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa config``: an edge's file, checked and described; nothing is changed."""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from cloud_toa.cli.report import Subparsers
from cloud_toa.errors import SeveralError, ToaError


def add(verbs: Subparsers) -> None:
    """Add ``config check|schema``."""
    parser = verbs.add_parser("config", help="an edge's file: check it, or show what it may have")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="whether 'edge run' would take this file",
        description="Read an edge's file, and the certificates and keys that it names, as "
        "'cloud-toa edge run' does, and say all that is wrong. Where HAProxy is installed, it "
        "checks what it would be given. Ports and host names are not tried.",
    )
    check.add_argument("file", type=Path, metavar="FILE")
    check.set_defaults(run=_check)
    schema = actions.add_parser("schema", help="JSON Schema of an edge's file, for editors")
    schema.set_defaults(run=_schema)


def _check(arguments: argparse.Namespace) -> int:
    # Here, as other commands shall not wait for what only this one needs.
    from cloud_toa.balancer import expiry, pipes  # noqa: PLC0415
    from cloud_toa.node import edge_configuration, edge_file  # noqa: PLC0415

    edge = edge_file.read(arguments.file)
    wrong: list[str] = []
    try:
        checked = edge_configuration.check(edge)
    except ToaError as error:
        wrong += error.lines
    log = edge.access_log.file
    try:
        if log is not None and not Path(log).resolve().is_relative_to("/proc"):
            pipes.check_access_log(log)  # what /dev/stdout is, differs by process
    except ToaError as error:
        wrong += error.lines
    if wrong:
        raise SeveralError(wrong)
    for line in expiry.warnings(edge.service, datetime.now(UTC)):
        print(f"cloud-toa: warning: {line}", file=sys.stderr)
    services = _counted(len(edge.service), "service")
    origins = _counted(sum(len(service.origin) for service in edge.service), "origin")
    program = edge.haproxy.program
    left_out = "" if checked else f" (HAProxy's own check was left out: {program} is not installed)"
    print(f"{arguments.file}: {services}, {origins}: good{left_out}")
    return 0


def _schema(_: argparse.Namespace) -> int:
    # As in _check.
    from cloud_toa.node import edge_file  # noqa: PLC0415

    print(json.dumps(edge_file.schema(), indent=2))
    return 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
