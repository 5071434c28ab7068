# SPDX-License-Identifier: Apache-2.0
"""``cloud-toa demo``: the main job on real traffic, on this machine, leaving nothing behind."""

import argparse
import json
import signal
import sys
from types import FrameType

from cloud_toa.cli.report import Subparsers
from cloud_toa.demo.isolation import isolate
from cloud_toa.demo.run import Result, demonstrate

_ENDS = (signal.SIGINT, signal.SIGTERM)


def add(verbs: Subparsers) -> None:
    """Add ``demo``."""
    parser = verbs.add_parser(
        "demo",
        help="show the main job on real traffic, here",
        description="Build clients, an edge and an origin in network namespaces, connect through "
        "a real HAProxy and a real nginx to a real nginx and a Python server, without TOA and "
        "with it, and print what the servers saw. Nothing of the host is changed.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # A service manager's stop cleans up as Ctrl-C does.
    for number in _ENDS:
        signal.signal(number, _end)
    isolate()
    results = list(demonstrate(_quiet if arguments.json else _say))
    print(json.dumps([_row(result) for result in results]) if arguments.json else _table(results))
    return 0 if all(result.right for result in results) else 1


def _end(_number: int, _frame: FrameType | None) -> None:
    # Whoever presses Ctrl-C again is not to stop the cleaning up.
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _say(step: str) -> None:
    print(f"- {step}", flush=True)


def _quiet(_step: str) -> None:
    sys.stdout.flush()


def _row(result: Result) -> dict[str, str]:
    return {
        "lb": result.case.balancer,
        "origin": result.case.origin,
        "client_family": f"v{result.case.client_family}",
        "origin_family": f"v{result.case.origin_family}",
        "client": result.client,
        "seen_without": result.seen_without,
        "seen_with": result.seen_with,
    }


def _table(results: list[Result]) -> str:
    rows = [("load balancer", "server", "way", "client", "server saw", "with TOA it saw", "")]
    for result in results:
        case = result.case
        rows.append(
            (
                case.balancer,
                case.origin,
                f"v{case.client_family} > v{case.origin_family}",
                result.client,
                result.seen_without,
                result.seen_with,
                "ok" if result.right else "WRONG",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    right = sum(result.right for result in results)
    return "\n".join(
        ["", *lines, "", f"{right} of {len(results)} servers saw the real client with TOA."]
    )
