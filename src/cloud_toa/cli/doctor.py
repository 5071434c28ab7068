# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa doctor``: what this host lacks, and the command that mends it."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from cloud_toa import doctor
from cloud_toa.cli.report import Subparsers
from cloud_toa.doctor import Finding
from cloud_toa.errors import ToaError

_WORDS = [words for words in doctor.PROFILES if words]


def add(verbs: Subparsers) -> None:
    """Add ``doctor [edge|origin|run|edge run|node]``."""
    parser = verbs.add_parser(
        "doctor",
        help="what this host lacks, and the command that mends it",
        description="One line for each prerequisite, and for each that is missing the command "
        "that mends it; the last line is the verdict. The kernel is tried, not believed: the "
        "programs are really loaded, attached nowhere, and dropped. Exits with 1 when something "
        "is missing.",
    )
    parser.add_argument(
        "purpose",
        nargs="*",
        metavar="PURPOSE",
        help=f"what this host is to be or to run: {', '.join(_WORDS)} "
        "(default: an edge and an origin)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    words = " ".join(arguments.purpose)
    if words not in doctor.PROFILES:
        raise ToaError(f"doctor: invalid choice: {words!r} (choose from {', '.join(_WORDS)})")
    found = doctor.diagnose(doctor.PROFILES[words])
    if arguments.json:
        shown = {
            "purpose": words,
            "ready": found.verdict.ready,
            "verdict": found.verdict.text,
            "findings": [asdict(each) for each in found.findings],
        }
        print(json.dumps(shown))
    else:
        print(f"{text(found.findings)}\n\n{found.verdict.text}")
    return int(not found.verdict.ready)


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
