# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa doctor``: what this host lacks, and the command that mends it."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from cloud_toa import doctor
from cloud_toa.cli.report import Subparsers
from cloud_toa.doctor import Finding, State

_DATAPATHS = {datapath.name: (datapath,) for datapath in doctor.BOTH}


def add(verbs: Subparsers) -> None:
    """Add ``doctor [edge|origin]``."""
    parser = verbs.add_parser(
        "doctor",
        help="what this host lacks, and the command that mends it",
        description="One line for each prerequisite, and for each that is missing the command "
        "that mends it. The kernel is tried, not believed: the programs are really loaded, "
        "attached nowhere, and dropped. Exits with 1 when something is missing.",
    )
    parser.add_argument(
        "role", nargs="?", choices=tuple(_DATAPATHS), help="of this host alone (default: both)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    findings = doctor.diagnose(_DATAPATHS.get(arguments.role, doctor.BOTH))
    print(json.dumps([asdict(found) for found in findings]) if arguments.json else text(findings))
    return int(any(found.state is State.MISSING for found in findings))


def text(findings: Iterable[Finding]) -> str:
    """The findings for people: state, name, detail in columns, remedies below."""
    findings = list(findings)
    width = max(len(found.name) for found in findings)
    lines = []
    for found in findings:
        lines.append(f"{found.state:<10}  {found.name:<{width}}  {found.detail}")
        lines += [f"    {line}" for line in _remedies(found)]
    return "\n".join(lines)


def _remedies(found: Finding) -> list[str]:
    if found.remedy_debian is None:
        return []
    if found.remedy_debian == found.remedy_rhel:
        return [f"everywhere: {found.remedy_debian}"]
    return [f"Debian, Ubuntu: {found.remedy_debian}", f"RHEL, Rocky: {found.remedy_rhel}"]
